package units

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
)

// JobResult is how a job ended, in the words of the signal JobRemoved.
type JobResult string

// Results of a job.
const (
	JobDone       JobResult = "done"
	JobCanceled   JobResult = "canceled"
	JobTimeout    JobResult = "timeout"
	JobFailed     JobResult = "failed"
	JobDependency JobResult = "dependency"
	JobSkipped    JobResult = "skipped"
)

const (
	jobInterface = busName + ".Job"
	jobRemoved   = managerInterface + ".JobRemoved"
	// pollJob is the time between two looks whether the job is still there. A
	// signal ends the wait sooner, while the connection stands.
	pollJob = 250 * time.Millisecond
	// callOff bounds what is done after the time is up.
	callOff = time.Second
)

// TryRestart restarts a unit if it runs, and waits until that job has ended. If
// a job that contradicts it is queued, it is refused (mode "fail").
//
// The error is ErrRefused, with PID 1's words; ErrNoBus when it is not known
// whether there was a job; or when ctx ends, ErrCalledOff or ErrUnfinished. A
// job that runs is never cancelled: PID 1 goes on stopping the unit and then
// does not start it.
//
// The job's word is the signal JobRemoved. It is lost with the connection, so
// that the job is looked for as well, over the way that works then; how one
// ended that is gone without a word is read from the unit.
func (m *Manager) TryRestart(ctx context.Context, unit string) (JobResult, error) {
	result, err := m.tryRestart(ctx, unit)
	if err != nil {
		return "", fmt.Errorf("restart %s: %w", unit, err)
	}
	return result, nil
}

func (m *Manager) tryRestart(ctx context.Context, unit string) (JobResult, error) {
	before, err := m.Service(ctx, unit)
	if err != nil {
		return "", err
	}
	w, err := m.watch(ctx)
	if err != nil {
		return "", err
	}
	defer w.close()
	object, err := w.submit(ctx, unit)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return "", fmt.Errorf("%w: %w", ErrUnfinished, err)
	case !w.client.lost(err):
		return "", fmt.Errorf("%w: %w", ErrRefused, err)
	default:
		// The call may have arrived or not.
		if object, err = m.jobOf(ctx, &before); err != nil || object == "" {
			return JobDone, err
		}
	}
	return m.await(ctx, w, object, &before)
}

// jobOf looks for the job of a call whose answer was lost. With neither an
// object nor an error it has ended already.
func (m *Manager) jobOf(ctx context.Context, before *Service) (dbus.ObjectPath, error) {
	for {
		now, err := m.Service(ctx, before.Name)
		switch {
		case err == nil && now.JobID != 0:
			return now.jobObject, nil
		case err == nil && now.InvocationID != before.InvocationID:
			return "", nil
		case err == nil:
			return "", fmt.Errorf("%w: the connection was lost before there was a job", ErrNoBus)
		case !errors.Is(err, ErrNoBus):
			return "", err
		}
		select {
		case <-time.After(pollJob):
		case <-ctx.Done():
			return "", fmt.Errorf("%w, or was never made: %w", ErrUnfinished, err)
		}
	}
}

// await waits until the job is gone.
func (m *Manager) await(ctx context.Context, w *watch, object dbus.ObjectPath, before *Service) (JobResult, error) {
	signals := w.signals
	tick := time.NewTicker(pollJob)
	defer tick.Stop()
	for gone := false; ; {
		select {
		case <-ctx.Done():
			return "", m.giveUp(ctx, object)
		case s, open := <-signals:
			if !open {
				signals = nil // the connection is lost
			} else if r, ours := w.result(s, object); ours {
				return r, nil
			}
			continue
		case <-tick.C:
		}
		state, err := m.jobState(ctx, object)
		switch {
		case err != nil, state != "": // cannot be told, or it is still there
		case signals != nil && !gone:
			gone = true // and its signal on the way
		default:
			switch after, err := m.Service(ctx, before.Name); {
			case err == nil:
				return infer(before, &after), nil
			case errors.Is(err, ErrNoUnit):
				return JobCanceled, nil // stopped and let go of, as transient units are
			}
		}
	}
}

// infer says how a restart ended from what became of the unit.
func infer(before, after *Service) JobResult {
	switch {
	case after.InvocationID != before.InvocationID && (after.ActiveState == "active" || after.ActiveState == "reloading"):
		return JobDone
	case after.ActiveState == "failed", after.ActiveState == "activating":
		return JobFailed
	}
	return JobCanceled
}

// giveUp cancels a job that has not begun, once the time is up.
func (m *Manager) giveUp(ctx context.Context, object dbus.ObjectPath) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callOff)
	defer cancel()
	switch state, err := m.jobState(ctx, object); {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnfinished, err)
	case state != "waiting":
		return ErrUnfinished
	}
	_, err := ask(ctx, m, func(ctx context.Context, c *client) (struct{}, error) {
		return struct{}{}, c.call(ctx, object, jobInterface+".Cancel").Err
	})
	if err != nil {
		return fmt.Errorf("%w: cancel it: %w", ErrUnfinished, err)
	}
	return ErrCalledOff
}

// jobState is waiting or running, "" when there is no such job any more.
func (m *Manager) jobState(ctx context.Context, object dbus.ObjectPath) (string, error) {
	return ask(ctx, m, func(ctx context.Context, c *client) (string, error) {
		var value dbus.Variant
		err := c.call(ctx, object, propertiesGet, jobInterface, "State").Store(&value)
		if answer, ok := errors.AsType[dbus.Error](err); ok && answer.Name == "org.freedesktop.DBus.Error.UnknownObject" {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		state, ok := value.Value().(string)
		if !ok || state == "" {
			return "", fmt.Errorf("state of a job is %v", value)
		}
		return state, nil
	})
}
