// Package serve brings metrics to who reads them: over HTTP, to sockets of its
// own and those that the service manager hands over, and into a file for
// node_exporter. What the metrics are is not its part.
//
// None of it may end the daemon or make it wait: what does not work is tried
// again for as long as it takes, and said by Troubles.
package serve

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// Gather gives all metrics as they are now. It returns soon after its context
// ends.
type Gather func(context.Context) ([]*dto.MetricFamily, error)

// Endpoint is where to listen, in the words of net.Listen.
type Endpoint struct {
	Network, Address string
}

func (e Endpoint) String() string {
	if e.Network == "unix" {
		return "unix:" + e.Address
	}
	return e.Address
}

// Config is what an Exporter needs.
type Config struct {
	Gather    Gather
	Listen    []Endpoint
	Handed    []net.Listener // by the service manager, see Handed
	WebConfig string         // path of exporter-toolkit's file, "" for none
	Textfile  string         // path, "" for none
	Interval  time.Duration  // between two writes of it
	Log       *slog.Logger
}

// Trouble is an outlet that does not work: which, why, and what would mend it,
// "" where that is not known.
type Trouble struct {
	What, Why, Mend string
}

func (t Trouble) String() string {
	if t.Mend == "" {
		return t.What + ": " + t.Why
	}
	return t.What + ": " + t.Why + "; " + t.Mend
}

// retryEvery is between two tries of a listener that does not work.
const retryEvery = 15 * time.Second

// Exporter brings metrics out.
type Exporter struct {
	cfg     Config
	log     *slog.Logger
	handler http.Handler
	retry   time.Duration

	textfile *outlet
	handed   []*outlet
	listened []*outlet
}

// New prepares an exporter, which owns the listeners from now on.
func New(c Config) *Exporter {
	e := &Exporter{cfg: c, log: slog.New(newSparing(c.Log.Handler())), retry: retryEvery}
	e.handler = newHandler(e.gather)
	for _, l := range c.Handed {
		e.handed = append(e.handed, &outlet{name: handedName(l)})
	}
	for _, at := range c.Listen {
		e.listened = append(e.listened, &outlet{name: at.String()})
	}
	if c.Textfile != "" {
		e.textfile = &outlet{name: c.Textfile}
	}
	return e
}

func (e *Exporter) String() string { return "metrics" }

// Run brings metrics out until ctx ends, and waits for the end of what it
// started, however long ago; not for a file system that does not answer. With
// nothing to do it returns at once.
func (e *Exporter) Run(ctx context.Context) {
	var group sync.WaitGroup
	for i, l := range e.cfg.Handed {
		group.Go(func() {
			defer l.Close()
			e.listen(ctx, e.handed[i], false, func() (net.Listener, error) { return l, nil })
		})
	}
	for i, at := range e.cfg.Listen {
		group.Go(func() { e.listen(ctx, e.listened[i], true, func() (net.Listener, error) { return open(ctx, at) }) })
	}
	if e.textfile != nil {
		group.Go(func() { e.keepTextfile(ctx) })
	}
	group.Wait()
}

// Doing says where metrics get out, nil where that is nowhere by intent.
func (e *Exporter) Doing() []string {
	var does []string
	for _, o := range e.outlets() {
		if o.working() {
			does = append(does, o.verb(e)+" "+o.name)
		}
	}
	return does
}

// Troubles lists what does not work, in a fixed order.
func (e *Exporter) Troubles() []Trouble {
	var list []Trouble
	for _, o := range e.outlets() {
		if t := o.trouble(); t != nil {
			list = append(list, *t)
		}
	}
	return list
}

func (e *Exporter) outlets() []*outlet {
	all := append(append([]*outlet{}, e.handed...), e.listened...)
	if e.textfile != nil {
		all = append(all, e.textfile)
	}
	return all
}

// gather asks for the metrics. A mistake in there costs the metrics, and not
// the daemon.
func (e *Exporter) gather(ctx context.Context) (families []*dto.MetricFamily, err error) {
	defer func() {
		if p := recover(); p != nil {
			e.log.Error("gather metrics", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("gather metrics: %v", p)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, gatherTime)
	defer cancel()
	return e.cfg.Gather(ctx)
}

// outlet is one way out, and how it is.
type outlet struct {
	name string

	mu  sync.Mutex // guards what follows
	up  bool       // it works, or is about to
	bad *Trouble
}

func (o *outlet) works() { o.set(nil) }

func (o *outlet) set(t *Trouble) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.up, o.bad = t == nil, t
}

func (o *outlet) fails(err error) {
	o.set(&Trouble{What: o.name, Why: strings.TrimSpace(err.Error()), Mend: mend(err, o.name)})
}

func (o *outlet) working() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.up
}

func (o *outlet) trouble() *Trouble {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bad
}

func (o *outlet) verb(e *Exporter) string {
	if o == e.textfile {
		return "written every " + e.cfg.Interval.String() + " to"
	}
	return "served on"
}
