// Package trendtest holds recordings of how TCP memory moved, each with what
// a person says of it, to measure the verdicts of package trend by. A
// recording is a text file, gzipped where its name ends in .gz: a header, then
// one JSON object a line, each a sample or a full reading.
package trendtest

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Version is the format that this package reads and writes.
const Version = 1

// Label is what a person says of an owner or the host.
type Label string

// Labels. None is for what neither grows nor stands still.
const (
	None     Label = "none"
	Load     Label = "load"
	Leak     Label = "leak"
	SlowPeer Label = "slow-peer"
)

// Labels lists the labels in the order of the confusion matrix.
func Labels() []Label { return []Label{Leak, SlowPeer, Load, None} }

// Origin says where a recording comes from.
type Origin string

// Origins.
const (
	Synthetic   Origin = "synthetic" // by the simulator of this package's tests
	RealSockets Origin = "kernel"    // real sockets, read from a running kernel
)

// Header is the first line of a recording.
type Header struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	Origin  Origin `json:"origin"`
	// HeldOut: chosen by name before the verdicts were tuned, and not looked
	// at while they were.
	HeldOut bool   `json:"held_out"`
	About   string `json:"about"`

	// Host and Owners are the labels; an owner without one is None.
	Host   Label            `json:"host"`
	Owners map[string]Label `json:"owners,omitempty"`
	// Culprits names, by owner, whom a slow-peer verdict must name.
	Culprits map[string]string `json:"culprits,omitempty"`
	// From is when the labels of leaks and slow peers begin to be true, in
	// seconds. A leak called before is a false one.
	From float64 `json:"from_s,omitempty"`

	PageSize   int           `json:"page_size"`
	Mem        [3]int64      `json:"tcp_mem"`     // pages
	ReserveMax reading.Pages `json:"reserve_max"` // pages
}

// LabelOf is the label of an owner.
func (h *Header) LabelOf(owner string) Label {
	if l, ok := h.Owners[owner]; ok {
		return l
	}
	return None
}

// Recording is a labelled series of observations.
type Recording struct {
	Header
	Observations []Observation
}

// Observation is a sample, and a full reading where Level is not empty. The
// names are short because a recording has thousands.
type Observation struct {
	Milliseconds int64         `json:"t"` // since the first observation
	Used         reading.Pages `json:"u"`
	Level        string        `json:"level,omitempty"`
	Partial      bool          `json:"partial,omitempty"`
	Owners       []Owner       `json:"owners,omitempty"`
}

// Owner is what the trend may use of a reading.Owner.
type Owner struct {
	Key         string       `json:"k"`
	Kind        reading.Kind `json:"kind"`
	Invocation  string       `json:"inv,omitempty"`
	Holders     [][2]uint64  `json:"h,omitempty"` // pid, start time
	HolderCount int          `json:"hn,omitempty"`
	Sockets     int64        `json:"n"`
	Bytes       int64        `json:"b"`
	Receive     int64        `json:"r,omitempty"`
	Send        int64        `json:"w,omitempty"`
	Reserved    int64        `json:"f,omitempty"`
	Unread      int64        `json:"un,omitempty"`
	Stalled     *int64       `json:"st,omitempty"`
	Young       *int64       `json:"yg,omitempty"`
	// Of the queues that stand still: sockets, bytes.
	StalledReceive *[2]int64           `json:"sr,omitempty"`
	StalledSend    *[2]int64           `json:"ss,omitempty"`
	States         map[string]int64    `json:"s,omitempty"`
	Classes        map[string][2]int64 `json:"c,omitempty"` // sockets, bytes
	Peers          []Peer              `json:"p,omitempty"`
}

// Peer is a reading.Peer.
type Peer struct {
	Owner   string `json:"o,omitempty"`
	Address string `json:"a,omitempty"`
	Sockets int64  `json:"n"`
	Bytes   int64  `json:"b"`
}

// Sample is the observation as the sampler would have given it. Times count
// from start.
func (r *Recording) Sample(o *Observation, start time.Time) reading.Sample {
	return reading.Sample{
		At:       start.Add(time.Duration(o.Milliseconds) * time.Millisecond),
		PageSize: r.PageSize,
		Mem: reading.TCPMem{
			Min:      reading.Pages(r.Mem[0]),
			Pressure: reading.Pages(r.Mem[1]), Max: reading.Pages(r.Mem[2]),
		},
		Used:       o.Used,
		ReserveMax: r.ReserveMax,
	}
}

// Reading is the observation as the scan would have given it, with what the
// trend uses; it reports false where the observation is a sample only.
func (r *Recording) Reading(o *Observation, start time.Time) (*reading.Reading, bool) {
	if o.Level == "" {
		return nil, false
	}
	full := &reading.Reading{Sample: r.Sample(o, start), Partial: o.Partial, Owners: make([]reading.Owner, len(o.Owners))}
	_ = full.Level.UnmarshalText([]byte(o.Level)) // any other name is Unknown
	for i := range o.Owners {
		full.Owners[i] = o.Owners[i].reading()
	}
	return full, true
}

func (o *Owner) reading() reading.Owner {
	out := reading.Owner{
		Key: o.Key, Name: o.Key, Kind: o.Kind, InvocationID: o.Invocation,
		HolderCount: o.HolderCount,
		Sum:         reading.Tally{Sockets: o.Sockets, Bytes: o.Bytes},
		Receive:     o.Receive, Send: o.Send, Reserved: o.Reserved,
		Unread: o.Unread, Stalled: o.Stalled, Young: o.Young,
		StalledReceive: toTally(o.StalledReceive), StalledSend: toTally(o.StalledSend),
	}
	for _, h := range o.Holders {
		out.Holders = append(out.Holders, reading.Holder{PID: int(h[0]), StartTime: h[1]})
	}
	for name, n := range o.States {
		if s, ok := reading.ParseState(name); ok {
			out.States[s] = n
		}
	}
	for name, t := range o.Classes {
		if c, ok := reading.ParseClass(name); ok {
			out.Classes[c] = reading.Tally{Sockets: t[0], Bytes: t[1]}
		}
	}
	for _, p := range o.Peers {
		out.Peers = append(out.Peers, reading.Peer{
			Owner: p.Owner, Address: p.Address,
			Tally: reading.Tally{Sockets: p.Sockets, Bytes: p.Bytes},
		})
	}
	return out
}

// FromReading makes an observation of a reading taken since after the first.
// Owners that keep reports false for are left out.
func FromReading(full *reading.Reading, since time.Duration, keep func(*reading.Owner) bool) Observation {
	o := FromSample(&full.Sample, since)
	o.Level, o.Partial = full.Level.String(), full.Partial
	for i := range full.Owners {
		if owner := &full.Owners[i]; keep == nil || keep(owner) {
			o.Owners = append(o.Owners, fromOwner(owner))
		}
	}
	return o
}

// FromSample makes an observation of a sample.
func FromSample(s *reading.Sample, since time.Duration) Observation {
	return Observation{Milliseconds: since.Milliseconds(), Used: s.Used}
}

func fromOwner(o *reading.Owner) Owner {
	out := Owner{
		Key: o.Key, Kind: o.Kind, Invocation: o.InvocationID, HolderCount: o.HolderCount,
		Sockets: o.Sum.Sockets, Bytes: o.Sum.Bytes,
		Receive: o.Receive, Send: o.Send, Reserved: o.Reserved,
		Unread: o.Unread, Stalled: o.Stalled, Young: o.Young,
		StalledReceive: fromTally(o.StalledReceive), StalledSend: fromTally(o.StalledSend),
	}
	for i := range o.Holders {
		out.Holders = append(out.Holders, [2]uint64{uint64(o.Holders[i].PID), o.Holders[i].StartTime})
	}
	for s, n := range o.States {
		if n != 0 {
			if out.States == nil {
				out.States = make(map[string]int64)
			}
			out.States[reading.State(s).String()] = n
		}
	}
	for c, t := range o.Classes {
		if t != (reading.Tally{}) {
			if out.Classes == nil {
				out.Classes = make(map[string][2]int64)
			}
			out.Classes[reading.Class(c).String()] = [2]int64{t.Sockets, t.Bytes}
		}
	}
	for _, p := range o.Peers {
		out.Peers = append(out.Peers, Peer{Owner: p.Owner, Address: p.Address, Sockets: p.Sockets, Bytes: p.Bytes})
	}
	return out
}

func toTally(pair *[2]int64) *reading.Tally {
	if pair == nil {
		return nil
	}
	return &reading.Tally{Sockets: pair[0], Bytes: pair[1]}
}

func fromTally(t *reading.Tally) *[2]int64 {
	if t == nil {
		return nil
	}
	return &[2]int64{t.Sockets, t.Bytes}
}

// Cut makes a recording of some owners out of one of the whole host. It keeps
// the full readings only, and takes the sum over the owners for the host's
// use: it is the recording of a host on which nothing else ran.
func (r *Recording) Cut(h Header, keep func(key string) bool) *Recording {
	h.Version, h.PageSize, h.Mem, h.ReserveMax = Version, r.PageSize, r.Mem, r.ReserveMax
	h.About += "; cut out of a recording of the whole host: it has this scene's owners only, " +
		"the host's use is their sum, and there are no samples between the readings"
	out := &Recording{Header: h}
	for _, o := range r.Observations {
		if o.Level == "" {
			continue
		}
		var sum int64
		var owners []Owner
		for i := range o.Owners {
			if keep(o.Owners[i].Key) {
				owners = append(owners, o.Owners[i])
				sum += o.Owners[i].Bytes
			}
		}
		o.Owners, o.Used = owners, reading.Pages(sum/int64(r.PageSize))
		out.Observations = append(out.Observations, o)
	}
	return out
}

// Encode writes the recording as lines of JSON.
func (r *Recording) Encode(w io.Writer) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	if err := out.Encode(&r.Header); err != nil {
		return fmt.Errorf("encode header of %s: %w", r.Name, err)
	}
	for i := range r.Observations {
		if err := out.Encode(&r.Observations[i]); err != nil {
			return fmt.Errorf("encode observation %d of %s: %w", i, r.Name, err)
		}
	}
	return nil
}

// Decode reads what Encode wrote.
func Decode(in io.Reader) (*Recording, error) {
	lines := json.NewDecoder(bufio.NewReaderSize(in, 64<<10))
	lines.DisallowUnknownFields()
	r := new(Recording)
	if err := lines.Decode(&r.Header); err != nil {
		return nil, fmt.Errorf("decode header: %w", err)
	}
	if r.Version != Version {
		return nil, fmt.Errorf("decode header: version %d, want %d", r.Version, Version)
	}
	for {
		var o Observation
		switch err := lines.Decode(&o); {
		case errors.Is(err, io.EOF):
			return r, nil
		case err != nil:
			return nil, fmt.Errorf("decode observation %d: %w", len(r.Observations), err)
		}
		r.Observations = append(r.Observations, o)
	}
}

// ReadFile reads a recording's file.
func ReadFile(path string) (_ *Recording, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open recording: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	in := io.Reader(f)
	if strings.HasSuffix(path, ".gz") {
		z, err := gzip.NewReader(f)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		defer func() { err = errors.Join(err, z.Close()) }()
		in = z
	}
	r, err := Decode(in)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

// WriteFile writes a recording's file.
func (r *Recording) WriteFile(path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("create recording: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if !strings.HasSuffix(path, ".gz") {
		return r.Encode(f)
	}
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return fmt.Errorf("compress %s: %w", path, err)
	}
	if err := r.Encode(z); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("compress %s: %w", path, err)
	}
	return nil
}
