package cli

import (
	"context"
	"errors"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/filter"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// source gives documents: the daemon's, or those made of a direct reading.
type source interface {
	Status(ctx context.Context) (*api.Status, error)
	Owners(ctx context.Context, fresh bool) (*api.Owners, error)
	Groups(ctx context.Context, by api.By, fresh bool) (*api.Groups, error)
	Sockets(ctx context.Context, q api.SocketQuery) (*api.Sockets, error)
	Orphans(ctx context.Context, fresh bool) (*api.Orphans, error)
	Doctor(ctx context.Context) (*api.Doctor, error)
	Close()
}

// open chooses the source. It never falls back from one to the other: they
// see different things.
func (c *command) open(ctx context.Context) (source, error) {
	if !c.direct {
		return api.Dial(c.socket), nil
	}
	if c.OpenDirect == nil {
		return nil, errors.New("read the kernel: this build has no --direct")
	}
	d, err := c.OpenDirect(ctx)
	if err != nil {
		return nil, err
	}
	return &directSource{d}, nil
}

// dial makes a client for what only a daemon knows.
func (c *command) dial() (*api.Client, error) {
	c.onlyDaemon = true
	if c.direct {
		return nil, usagef("--direct: what was decided and done only a daemon knows")
	}
	return api.Dial(c.socket), nil
}

// ask shows a document that only the daemon can give. One that comes with an
// error is not whole: it is shown, and then the error.
func (c *command) ask(ctx context.Context, get func(context.Context, *api.Client) (doc any, draw page, err error)) error {
	client, err := c.dial()
	if err != nil {
		return err
	}
	defer client.Close()
	doc, draw, err := get(ctx, client)
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
