package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/filter"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store/history"
)

// Source answers from a file as its daemon would have when it was made. Now is
// the present, which ages count to.
type Source struct {
	*File
	Now time.Time
}

// NotFoundError says that a file does not have what was asked for.
type NotFoundError struct{ What string }

func (e *NotFoundError) Error() string { return "read export: " + e.What }

// NotFound tells it from other errors, as for an answer of the daemon.
func (e *NotFoundError) NotFound() bool { return true }

// Close has nothing to close: all was read.
func (s *Source) Close() {}

// SocketsRead counts nothing: a file is read by now.
func (s *Source) SocketsRead() int64 { return 0 }

// mark says of a document that it was recorded, and how old it is by now. It
// gives how much older than it was.
func (s *Source) mark(h *api.Header) float64 {
	before := h.AgeSeconds
	h.Source, h.AgeSeconds = api.SourceExport, max(s.Now.Sub(h.TakenAt).Seconds(), 0)
	return h.AgeSeconds - before
}

// Status gives the status.
func (s *Source) Status(context.Context) (*api.Status, error) {
	doc, err := decode[api.Status](s.File, statusName)
	if err != nil {
		return nil, err
	}
	if (doc.Ledger == nil) != (doc.ScanAgeSeconds == nil) {
		return nil, errors.New("read export: status.json: there is a ledger without its age, or an age without its ledger")
	}
	older := s.mark(&doc.Header)
	if doc.ScanAgeSeconds != nil {
		*doc.ScanAgeSeconds += older
	}
	return doc, nil
}

// Owners gives the ledger.
func (s *Source) Owners(context.Context, bool) (*api.Owners, error) {
	doc, err := decode[api.Owners](s.File, ownersName)
	if err == nil {
		s.mark(&doc.Header)
	}
	return doc, err
}

// Groups gives the ledger summed by something other than owner.
func (s *Source) Groups(_ context.Context, by api.By, _ bool) (*api.Groups, error) {
	doc, err := decode[api.Groups](s.File, groupsDir+string(by)+".json")
	if err == nil {
		s.mark(&doc.Header)
	}
	return doc, err
}

// Sockets lists those that the file has; that there were more is a gap.
func (s *Source) Sockets(ctx context.Context, q api.SocketQuery) (*api.Sockets, error) {
	if q.Info {
		return nil, errors.New("read export: TCP_INFO is asked of the kernel, and not in the file")
	}
	all, err := decode[api.Sockets](s.File, socketsName)
	if err != nil {
		return nil, err
	}
	owners, err := s.Owners(ctx, false)
	if err != nil {
		return nil, err
	}
	want, err := filter.Parse(q.Filter)
	if err != nil {
		return nil, err
	}
	doc := all.Select(owners, q, want.Want)
	s.mark(&doc.Header)
	if out := all.Truncated; out.Sockets > 0 {
		doc.Gaps = append(doc.Gaps, reading.Gap{
			Code: "not-exported", What: fmt.Sprintf("%d sockets", out.Sockets), Why: "the file has the biggest ones", MayHideBytes: &out.Bytes,
		})
	}
	return doc, nil
}

// Orphans gives who left orphans behind.
func (s *Source) Orphans(context.Context, bool) (*api.Orphans, error) {
	doc, err := decode[api.Orphans](s.File, orphansName)
	if err == nil {
		s.mark(&doc.Header)
	}
	return doc, err
}

// Doctor gives the checks.
func (s *Source) Doctor(context.Context) (*api.Doctor, error) {
	doc, err := decode[api.Doctor](s.File, doctorName)
	if err == nil {
		doc.Source = api.SourceExport
	}
	return doc, err
}

// Incidents lists what happened.
func (s *Source) Incidents(context.Context) (*api.Incidents, error) {
	return decode[api.Incidents](s.File, summariesName)
}

// Incident gives one; the error of one that is not there says NotFound.
func (s *Source) Incident(_ context.Context, id string) (*record.Incident, error) {
	for in, err := range each[record.Incident](s.File, incidentsName) {
		if err != nil {
			return nil, err
		}
		if in.ID == id {
			return in, nil
		}
	}
	return nil, &NotFoundError{fmt.Sprintf("no incident is called %.100q", id)}
}

// Records gives the records that q selects, the newest first.
func (s *Source) Records(_ context.Context, q api.RecordQuery) iter.Seq2[record.Record, error] {
	return func(yield func(record.Record, error) bool) {
		n := 0
		for r, err := range each[record.Record](s.File, recordsName) {
			if err != nil {
				yield(record.Record{}, err)
				return
			}
			if !q.Selects(r) {
				continue
			}
			if n++; !yield(*r, nil) || n == q.Limit {
				return
			}
		}
		if why := s.End.Missing[recordsName]; why != "" {
			yield(record.Record{}, fmt.Errorf("read export: its %s is not whole: %s", recordsName, why))
		}
	}
}

// Rules says where each rule stood.
func (s *Source) Rules(context.Context) (*api.Rules, error) {
	return decode[api.Rules](s.File, rulesName)
}

// Policy gives the effective policy.
func (s *Source) Policy(context.Context) (*api.Policy, error) {
	return decode[api.Policy](s.File, policyName)
}

// Plugins gives the actions and their programs.
func (s *Source) Plugins(context.Context) (*api.Plugins, error) {
	return decode[api.Plugins](s.File, pluginsName)
}

// History gives the segments with what was recorded since then.
func (s *Source) History(_ context.Context, since time.Time) iter.Seq2[api.Segment, error] {
	return func(yield func(api.Segment, error) bool) {
		for segment, err := range history.Copy(s.segments, since) {
			if !yield(api.Segment(segment), err) {
				return
			}
		}
		if why := s.End.Missing[historyDir]; why != "" {
			yield(api.Segment{}, fmt.Errorf("read export: its recorded readings are not whole: %s", why))
		}
	}
}

// each reads documents, one on each line.
func each[T any](f *File, name string) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		for line := range bytes.Lines(f.files[name]) {
			doc := new(T)
			if err := json.Unmarshal(line, doc); err != nil {
				yield(nil, fmt.Errorf("read export: %s: %w", name, err))
				return
			}
			if !yield(doc, nil) {
				return
			}
		}
	}
}
