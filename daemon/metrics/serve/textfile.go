package serve

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

const (
	// writeTime is what nobody would call late, of a file of some 30 kB.
	writeTime = 5 * time.Second
	// stopTime is how long the daemon's end waits for a file system.
	stopTime = 2 * time.Second
)

// textfileMode lets node_exporter read it, whoever that runs as.
const textfileMode = 0o644

// ownCost begins the names that node_exporter has for itself: of two families
// with one name it serves its own, and logs an error at each scrape.
const ownCost = "process_"

// keepTextfile writes the file at each interval, and removes it in the end:
// what was true of a daemon that ran must not be read as if it still did. Only
// one write is under way; a file system that does not answer has one goroutine
// and no more.
func (e *Exporter) keepTextfile(ctx context.Context) {
	tick := time.NewTicker(e.cfg.Interval)
	defer tick.Stop()
	written := false
	for first := true; ; first = false {
		done := make(chan error, 1)
		go func() {
			if first {
				clean(e.cfg.Textfile)
			}
			done <- e.put(ctx)
		}()
		ended, err := e.await(ctx, done)
		if ctx.Err() != nil {
			if written = written || ended && err == nil; ended && written {
				e.remove()
			}
			return
		}
		if err == nil {
			written = true
			e.textfile.works()
		} else {
			e.textfile.fails(err)
		}
		select {
		case <-ctx.Done():
			if written {
				e.remove()
			}
			return
		case <-tick.C:
		}
	}
}

// await waits for a write, says so where it is late, and gives up some time
// after ctx ends.
func (e *Exporter) await(ctx context.Context, done <-chan error) (ended bool, err error) {
	late := time.NewTimer(writeTime)
	defer late.Stop()
	for {
		select {
		case err := <-done:
			return true, err
		case <-late.C:
			e.textfile.fails(fmt.Errorf("the file system has not answered for %s", writeTime))
		case <-ctx.Done():
			select {
			case err := <-done:
				return true, err
			case <-time.After(stopTime):
				return false, nil
			}
		}
	}
}

// put writes the file once, or leaves the old one as it is.
func (e *Exporter) put(ctx context.Context) error {
	families, err := e.gather(ctx)
	if err != nil {
		return err
	}
	var ours []*dto.MetricFamily // what was gathered is somebody else's to keep
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), ownCost) {
			ours = append(ours, f)
		}
	}
	text, err := encode(ours, expfmt.NewFormat(expfmt.TypeTextPlain))
	if err != nil {
		return err
	}
	if err := replace(e.cfg.Textfile, text); err != nil {
		return cause(err)
	}
	return nil
}

// replace puts text at path at once, by a rename in the same folder. What is at
// path is replaced and not written to, a link too.
func replace(path string, text []byte) error {
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(textfileMode))
	if err != nil {
		return err
	}
	defer f.Cleanup() //nolint:errcheck // nothing is left where all went well, and nothing can be done where not
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// clean removes what a daemon left that was killed while it wrote: renameio's
// names are a dot, the file's and digits. It runs once, and a failure is one of
// the writes to come, too.
func clean(path string) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return
	}
	for _, entry := range entries {
		digits, ok := strings.CutPrefix(entry.Name(), "."+filepath.Base(path))
		if ok && digits != "" && strings.Trim(digits, "0123456789") == "" && entry.Type().IsRegular() {
			_ = os.Remove(filepath.Join(filepath.Dir(path), entry.Name()))
		}
	}
}

// remove takes the file away, within a time.
func (e *Exporter) remove() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = os.Remove(e.cfg.Textfile) // its age tells, where it stays
	}()
	select {
	case <-done:
	case <-time.After(stopTime):
	}
}
