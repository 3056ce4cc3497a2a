package export

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
)

// Options say what to write.
type Options struct {
	At    time.Time // now
	By    string    // version of tcpmemctl
	Since time.Time // of records and readings; zero: all that there are
	// Told is called with what is being read, if it is not nil.
	Told func(what string)
}

// Write asks a daemon for all that it knows, and writes it to w. What it cannot
// give is noted in the End; only where it gives no status, or w takes no more,
// there is an error.
func Write(ctx context.Context, w io.Writer, daemon *api.Client, o Options) (*End, error) {
	if o.Told == nil {
		o.Told = func(string) {}
	}
	packed := gzip.NewWriter(w)
	e := &writer{ctx: ctx, daemon: daemon, options: o, tar: tar.NewWriter(packed), end: End{Version: version, Missing: map[string]string{}}}
	if err := errors.Join(e.write(), e.tar.Close(), packed.Close()); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return &e.end, nil
}

type writer struct {
	ctx     context.Context
	daemon  *api.Client
	options Options
	tar     *tar.Writer
	end     End
	failed  error // of the output
}

func (w *writer) write() error {
	status, err := w.daemon.Status(w.ctx)
	if err != nil {
		return err
	}
	m := Manifest{
		Version: version, Kind: kind, MadeAt: w.options.At.UTC(), MadeBy: w.options.By, Hostname: status.Hostname, DaemonVersion: status.DaemonVersion,
	}
	if !w.options.Since.IsZero() {
		m.Since = new(w.options.Since.UTC())
	}
	w.document(manifestName, m, nil)
	w.readings()
	// Later than the scan that the others rest on.
	if status, err = w.daemon.Status(w.ctx); err == nil {
		w.document(statusName, status, nil)
	} else {
		w.missing(statusName, err)
	}
	w.past()
	w.document(endName, &w.end, nil)
	return errors.Join(w.failed, context.Cause(w.ctx))
}

// readings writes what rests on one scan.
func (w *writer) readings() {
	w.options.Told("owners")
	owners, err := w.daemon.Owners(w.ctx, true)
	if err == nil {
		owners.Keep(maxOwners)
	}
	w.document(ownersName, owners, err)
	for _, by := range api.Bys() {
		if by != api.ByOwner {
			groups, err := w.daemon.Groups(w.ctx, by, false)
			w.document(groupsDir+string(by)+".json", groups, err)
		}
	}
	w.options.Told("orphans")
	orphans, err := w.daemon.Orphans(w.ctx, false)
	if err == nil {
		orphans.Keep(maxOwners)
	}
	w.document(orphansName, orphans, err)
	w.options.Told("sockets")
	sockets, err := w.daemon.Sockets(w.ctx, api.SocketQuery{Limit: maxSockets})
	if err == nil {
		w.end.Sockets = sockets.Truncated
	}
	w.document(socketsName, sockets, err)
	w.options.Told("the host's checks")
	doctor, err := w.daemon.Doctor(w.ctx)
	w.document(doctorName, doctor, err)
}

// past writes what was decided, done and recorded.
func (w *writer) past() {
	w.options.Told("incidents and actions")
	rules, err := w.daemon.Rules(w.ctx)
	w.document(rulesName, rules, err)
	policy, err := w.daemon.Policy(w.ctx)
	if err == nil {
		policy.Text = hideSecrets(policy.Text)
	}
	w.document(policyName, policy, err)
	plugins, err := w.daemon.Plugins(w.ctx)
	w.document(pluginsName, plugins, err)
	w.incidents()
	w.records()
	n := 0
	for s, err := range w.daemon.History(w.ctx, w.options.Since) {
		if err != nil {
			w.missing(historyDir, err)
			break
		}
		n++
		w.options.Told(fmt.Sprintf("recorded readings: %d files", n))
		w.file(historyDir+s.Name, s.Data)
	}
}

// What may be secret of an address: who asks, and all behind the host. Chat
// systems know their callers by the path alone.
var (
	asker = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s"'/?#@]*@`)
	path  = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://[^\s"'/?#]*)[/?#][^\s"']+`)
)

// hideSecrets takes out of a policy what a file that goes to others must not
// have, as the action notify does in what it tells.
func hideSecrets(policy string) string {
	return path.ReplaceAllString(asker.ReplaceAllString(policy, "$1"), "$1/left-out")
}

func (w *writer) incidents() {
	list, err := w.daemon.Incidents(w.ctx)
	w.document(summariesName, list, err)
	if err != nil {
		return
	}
	var all lines
	for i := range list.Incidents {
		in, err := w.daemon.Incident(w.ctx, list.Incidents[i].ID)
		if err != nil || !all.add(in) { // it made room for a newer one meanwhile
			w.end.Incidents++
		}
	}
	w.file(incidentsName, all.Bytes())
}

func (w *writer) records() {
	var all lines
	var oldest time.Time
	for r, err := range w.daemon.Records(w.ctx, api.RecordQuery{Since: w.options.Since}) {
		if err != nil {
			w.missing(recordsName, err)
			break
		}
		if !all.add(&r) {
			w.end.Records = &oldest
			break
		}
		oldest = r.At.UTC()
	}
	w.file(recordsName, all.Bytes())
}

// lines are documents, one on each, as many as have room.
type lines struct{ bytes.Buffer }

func (l *lines) add(doc any) bool {
	text, err := json.Marshal(doc)
	if err != nil || l.Len()+len(text)+1 > maxLines {
		return false
	}
	l.Write(append(text, '\n'))
	return true
}

// document writes one, or notes that err is why it is missing.
func (w *writer) document(name string, doc any, err error) {
	var text []byte
	if err == nil {
		text, err = json.Marshal(doc)
	}
	if err == nil && len(text) > maxFile {
		err = errors.New("it is too large")
	}
	if err != nil {
		w.missing(name, err)
		return
	}
	w.file(name, append(text, '\n'))
}

func (w *writer) missing(name string, err error) { w.end.Missing[name] = err.Error() }

func (w *writer) file(name string, data []byte) {
	if w.failed != nil {
		return
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: w.options.At, Format: tar.FormatPAX}
	if w.failed = w.tar.WriteHeader(h); w.failed == nil {
		_, w.failed = w.tar.Write(data)
	}
}
