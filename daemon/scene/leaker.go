package scene

import (
	"context"
	"fmt"
	"time"
)

// LeakSpec says what a leaking program leaks. Counts are connections, built one
// class after the other in turn until each has its number: the bound.
type LeakSpec struct {
	Unread    int     // received and never read
	Hidden    int     // reset by the peer, still held
	Unsent    int     // send queue full towards a peer that does not read
	CloseWait int     // finished by the peer, still held
	PerSecond float64 // connections a second over all classes; 0 is at once
	Bytes     int     // payload of each, 4096 where 0; Unsent fills up
	Family    Family
}

// Leaker leaks in this process: it builds connections at a rate, up to the
// bound, holds them until ctx is done and then frees them by resets. The peers
// are in this process too. It returns nil when ctx ended it.
func Leaker(ctx context.Context, spec LeakSpec) error {
	w := newWorkshop()
	err := leak(ctx, w, spec)
	if ctx.Err() != nil {
		err = nil
	}
	if freed := w.forgetAll(); err == nil {
		err = freed
	}
	if err != nil {
		return fmt.Errorf("leak: %w", err)
	}
	return nil
}

func leak(ctx context.Context, w *workshop, spec LeakSpec) error {
	if spec.Bytes == 0 {
		spec.Bytes = 4096
	}
	left := []struct {
		kind Kind
		n    int
	}{{Unread, spec.Unread}, {Hidden, spec.Hidden}, {Unsent, spec.Unsent}, {CloseWait, spec.CloseWait}}
	var pace <-chan time.Time
	if spec.PerSecond > 0 {
		ticker := time.NewTicker(time.Duration(float64(time.Second) / spec.PerSecond))
		defer ticker.Stop()
		pace = ticker.C
	}
	for more := true; more; {
		more = false
		for i := range left {
			if left[i].n == 0 {
				continue
			}
			more = true
			left[i].n--
			if pace != nil {
				select {
				case <-pace:
				case <-ctx.Done():
					return nil
				}
			}
			one := Spec{Kind: left[i].kind, Bytes: spec.Bytes, Family: spec.Family}
			if err := buildQuickly(ctx, w, one); err != nil {
				return err
			}
		}
	}
	<-ctx.Done()
	return nil
}

// buildQuickly makes a scene without waiting for it to settle.
func buildQuickly(ctx context.Context, w *workshop, spec Spec) error {
	spec, err := spec.withDefaults()
	if err != nil {
		return err
	}
	st := &stage{spec: spec, dialer: w, acceptor: w}
	if err := st.make(ctx); err != nil {
		return fmt.Errorf("build %s: %w", spec.Kind, err)
	}
	return nil
}
