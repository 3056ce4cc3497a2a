package cli

import (
	"context"
	"iter"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/store/history"
)

// moments gives what was recorded from since on, the oldest first; a zero time
// is no limit. An error tells of a part that is lost: what follows may still
// come.
func moments(ctx context.Context, t teller, since time.Time) iter.Seq2[*history.Entry, error] {
	return func(yield func(*history.Entry, error) bool) {
		for e, err := range momentsAround(ctx, t, since, time.Time{}) {
			if (err != nil || !e.At.Before(since)) && !yield(e, err) {
				return
			}
		}
	}
}

// momentsAround gives also some of the moments before.
func momentsAround(ctx context.Context, t teller, since, until time.Time) iter.Seq2[*history.Entry, error] {
	return func(yield func(*history.Entry, error) bool) {
		segments, err := copies(t.History(ctx, since))
		for e, err := range history.Read(segments, time.Time{}, until) {
			if ctx.Err() != nil {
				e, err = nil, context.Cause(ctx)
			}
			if !yield(e, err) || ctx.Err() != nil {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

// copies collects segments: all of them are no more than a daemon keeps.
func copies(from iter.Seq2[api.Segment, error]) (history.Copies, error) {
	all := history.Copies{}
	for s, err := range from {
		if err == nil {
			err = all.Add(s.Name, s.Data)
		}
		if err != nil {
			return all, err
		}
	}
	return all, nil
}
