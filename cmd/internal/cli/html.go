package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	pages "github.com/tcpmemd/tcpmemd/cmd/internal/page"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store/history"
)

// pastOfStatus is how far back the page of a status looks.
const pastOfStatus = time.Hour

// htmlFlags are for commands that can write a page for a browser.
func (c *command) htmlFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.html, "html", false, "write a page for a browser, whole in one file")
	cmd.Flags().StringVarP(&c.output, "output", "o", "", "write the page to `FILE`")
}

// wantsHTML says whether a page for a browser is asked for.
func (c *command) wantsHTML() (bool, error) {
	switch {
	case c.output != "" && !c.html:
		return false, usagef("--output: it is for --html")
	case c.html && c.json:
		return false, usagef("--html and --json: want one of them")
	case c.html && c.watch > 0:
		return false, usagef("--html is written once: leave --watch out")
	}
	return c.html, nil
}

// writePage puts a page where it is wanted.
func (c *command) writePage(text []byte, err error) error {
	if err != nil {
		return err
	}
	if c.output == "" {
		_, err := c.Stdout.Write(text)
		return err
	}
	f, err := os.Create(c.output)
	if err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}

func (c *command) pageMeta() pages.Meta { return pages.Meta{Version: c.Version, Now: c.now()} }

func (c *command) incidentHTML(ctx context.Context, id string) error {
	t, err := c.record()
	if err != nil {
		return err
	}
	defer t.Close()
	doc, err := t.Incident(ctx, id)
	if err != nil {
		return err
	}
	return c.writePage(pages.Incident(doc, c.pageMeta()))
}

func (c *command) statusHTML(ctx context.Context) error {
	src, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer src.Close()
	doc, err := src.Status(ctx)
	if err != nil {
		return err
	}
	owners, err := src.Owners(ctx, false)
	if err != nil {
		return err
	}
	var past []record.Point
	if t, ok := src.(teller); ok {
		past, err = recent(ctx, t, doc.TakenAt.Add(-pastOfStatus))
		if err != nil { // the state of now is whole without it
			fmt.Fprintf(c.Stderr, "tcpmemctl: the last hour is not whole: %s\n", printable(err.Error()))
		}
	}
	return c.writePage(pages.Status(doc, owners, past, c.pageMeta()))
}

// recent gives what was recorded since then, as points with their owners.
func recent(ctx context.Context, t teller, since time.Time) ([]record.Point, error) {
	var past []record.Point
	var broken error
	for e, err := range moments(ctx, t, since) {
		if err != nil {
			broken = errors.Join(broken, err)
			continue
		}
		past = append(past, recordPoint(e))
	}
	return past, broken
}

// recordPoint is what a picture shows of an entry.
func recordPoint(e *history.Entry) record.Point {
	const most = 12 // owners: more than a picture has colours
	s := &e.Sample
	p := record.Point{
		Stamp: e.Stamp, Level: e.Level.String(), Used: s.Used, Min: s.Mem.Min, Pressure: s.Mem.Pressure, Max: s.Mem.Max,
		Orphans: s.Orphans, Aborts: s.Kernel.AbortOnMemory,
	}
	if e.Reading != nil {
		p.Owners = []record.OwnerBytes{}
		for i := range e.Reading.Owners {
			if o := &e.Reading.Owners[i]; i < most && o.Sum.Bytes > 0 {
				p.Owners = append(p.Owners, record.OwnerBytes{Key: o.Key, Name: o.Name, Bytes: o.Sum.Bytes})
			}
		}
	}
	return p
}
