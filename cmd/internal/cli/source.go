package cli

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/filter"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// source gives documents: the daemon's, those made of a direct reading, or those
// of a file.
type source interface {
	Status(ctx context.Context) (*api.Status, error)
	Owners(ctx context.Context, fresh bool) (*api.Owners, error)
	Groups(ctx context.Context, by api.By, fresh bool) (*api.Groups, error)
	Sockets(ctx context.Context, q api.SocketQuery) (*api.Sockets, error)
	Orphans(ctx context.Context, fresh bool) (*api.Orphans, error)
	Doctor(ctx context.Context) (*api.Doctor, error)
	// SocketsRead is how many sockets have come so far. It may be called while
	// anything else is.
	SocketsRead() int64
	Close()
}

// open chooses the source: the daemon, the kernel, or a file. It never falls back
// from one to the other: they see different things.
func (c *command) open(ctx context.Context) (source, error) {
	switch {
	case c.from != "":
		return c.exported()
	case !c.direct:
		return api.Dial(c.socket), nil
	case c.OpenDirect == nil:
		return nil, errors.New("read the kernel: this build has no --direct")
	}
	d, err := c.OpenDirect(ctx)
	if err != nil {
		return nil, err
	}
	return &directSource{d}, nil
}

// teller tells what only a daemon knows: what was recorded, decided and done.
type teller interface {
	Status(ctx context.Context) (*api.Status, error)
	Incidents(ctx context.Context) (*api.Incidents, error)
	Incident(ctx context.Context, id string) (*record.Incident, error)
	Records(ctx context.Context, q api.RecordQuery) iter.Seq2[record.Record, error]
	Rules(ctx context.Context) (*api.Rules, error)
	Policy(ctx context.Context) (*api.Policy, error)
	Plugins(ctx context.Context) (*api.Plugins, error)
	History(ctx context.Context, since time.Time) iter.Seq2[api.Segment, error]
	Close()
}

// dial makes a client for what only a daemon knows or does.
func (c *command) dial() (*api.Client, error) {
	c.onlyDaemon = true
	switch {
	case c.from != "":
		return nil, usagef("--from: a file can be read, and does nothing")
	case c.direct:
		return nil, usagef("--direct: what was decided and done only a daemon knows")
	}
	return api.Dial(c.socket), nil
}

// record opens what tells of the past: the daemon, or a file.
func (c *command) record() (teller, error) {
	if c.from != "" {
		return c.exported()
	}
	return c.dial()
}

// ask shows a document of the past.
func (c *command) ask(ctx context.Context, get func(context.Context, teller) (doc any, draw page, err error)) error {
	return showFrom(ctx, c, c.record, get)
}

// order has the daemon do something, and shows its answer.
func (c *command) order(ctx context.Context, do func(context.Context, *api.Client) (doc any, draw page, err error)) error {
	return showFrom(ctx, c, c.dial, do)
}

// showFrom shows the document that get makes. One that comes with an error is
// not whole: it is shown, and then the error.
func showFrom[T interface{ Close() }](ctx context.Context, c *command, open func() (T, error),
	get func(context.Context, T) (doc any, draw page, err error),
) error {
	from, err := open()
	if err != nil {
		return err
	}
	defer from.Close()
	doc, draw, err := get(ctx, from)
	if doc == nil {
		return err
	}
	return errors.Join(c.put(doc, draw), err)
}

// put prints a document.
func (c *command) put(doc any, draw page) error {
	if c.json {
		return c.encode(doc)
	}
	columns, _ := c.size()
	return c.print(draw(columns, c.painter()))
}

// directSource makes documents without a daemon. Each of its readings is
// fresh.
type directSource struct{ direct Direct }

func (d *directSource) meta() api.Meta {
	m := d.direct.Meta()
	m.Source = api.SourceDirect
	return m
}

func (d *directSource) SocketsRead() int64 { return d.direct.SocketsRead() }

// Close has nothing to report: what was read is printed already.
func (d *directSource) Close() { _ = d.direct.Close() }

func (d *directSource) Status(ctx context.Context) (*api.Status, error) {
	r, err := d.direct.Read(ctx)
	if err != nil {
		return nil, err
	}
	return api.StatusFrom(d.meta(), api.StateOf(r)), nil
}

func (d *directSource) Owners(ctx context.Context, _ bool) (*api.Owners, error) {
	r, err := d.direct.Read(ctx)
	if err != nil {
		return nil, err
	}
	return api.OwnersFrom(d.meta(), r), nil
}

func (d *directSource) Groups(ctx context.Context, by api.By, _ bool) (*api.Groups, error) {
	r, err := d.direct.Read(ctx)
	if err != nil {
		return nil, err
	}
	return api.CollectGroups(ctx, d.meta(), r, d.direct, by)
}

func (d *directSource) Sockets(ctx context.Context, q api.SocketQuery) (*api.Sockets, error) {
	want, err := filter.Parse(q.Filter)
	if err != nil {
		return nil, err
	}
	r, err := d.direct.Read(ctx)
	if err != nil {
		return nil, err
	}
	var more func(*reading.Socket, *api.Socket)
	if q.Info {
		more = func(s *reading.Socket, row *api.Socket) {
			// A connection that ended meanwhile has no info; that is no failure.
			if api.HasInfo(s) {
				row.TCPInfo, _ = d.direct.Info(ctx, s)
			}
		}
	}
	doc, err := api.CollectSockets(ctx, d.meta(), r, d.direct, want.Want(api.OwnerIndex(r)), q.Limit, more)
	if err != nil {
		return nil, err
	}
	doc.Filter = q.Filter
	return doc, nil
}

func (d *directSource) Orphans(ctx context.Context, _ bool) (*api.Orphans, error) {
	r, err := d.direct.Read(ctx)
	if err != nil {
		return nil, err
	}
	return api.CollectOrphans(ctx, d.meta(), r, d.direct)
}

func (d *directSource) Doctor(ctx context.Context) (*api.Doctor, error) {
	checks, err := d.direct.Doctor(ctx)
	if err != nil {
		return nil, err
	}
	return api.DoctorFrom(d.meta(), checks), nil
}
