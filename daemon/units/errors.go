package units

import "errors"

// Errors that callers tell apart with errors.Is. Any other error is of the
// one call: PID 1 refused it, or answered what the interface does not allow.
var (
	// ErrNoBus: PID 1 cannot be asked now. The text says what that costs.
	ErrNoBus = errors.New("PID 1 cannot be asked: units are only labels read from cgroup paths, and no unit can be acted upon")
	// ErrNoUnit: PID 1 answered, and knows no unit there that could own a
	// process: the path lies in a slice only, or outside of what it manages.
	ErrNoUnit = errors.New("PID 1 knows no unit there")
	// ErrMismatch: PID 1 named a unit whose control group does not hold the
	// path, as when the unit ended between two questions.
	ErrMismatch = errors.New("the unit's control group does not hold the path")
	// ErrRefused: PID 1 did not take the job; nothing has happened.
	ErrRefused = errors.New("PID 1 refuses the job")
	// ErrCalledOff: the job had not begun when the time was up, and was cancelled.
	ErrCalledOff = errors.New("the job had not begun in time and was cancelled")
	// ErrUnfinished: the job was under way when the time was up, and goes on.
	ErrUnfinished = errors.New("the job did not end in time and goes on")
)
