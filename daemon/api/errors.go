package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"syscall"
)

// NotRunningError says that no daemon answers on the socket.
type NotRunningError struct {
	Socket string
	Err    error // what connect(2) said
}

func (e *NotRunningError) Error() string {
	return fmt.Sprintf("connect to %s: the daemon is not running: %v", e.Socket, e.Err)
}

func (e *NotRunningError) Unwrap() error { return e.Err }

// PermissionError says that the caller may not talk to the daemon.
type PermissionError struct {
	Socket string
	Err    error
}

func (e *PermissionError) Error() string {
	return fmt.Sprintf("connect to %s: %v", e.Socket, e.Err)
}

func (e *PermissionError) Unwrap() error { return e.Err }

// DeniedError says that the daemon does not do this for this caller, in its
// own words.
type DeniedError struct{ Message string }

func (e *DeniedError) Error() string { return "ask daemon: " + e.Message }

// RequestError is the daemon's refusal of a request, in its own words.
type RequestError struct {
	Status  int    // HTTP status: 400, 413, 503, 504, ...
	Message string // one sentence
}

func (e *RequestError) Error() string { return "ask daemon: " + e.Message }

// Usage reports whether the request itself was wrong, as a filter that does
// not parse.
func (e *RequestError) Usage() bool { return e.Status == http.StatusBadRequest }

// NotFound reports whether what was asked for does not exist.
func (e *RequestError) NotFound() bool { return e.Status == http.StatusNotFound }

// ConfigError says that files of the configuration are wrong; what was in force
// stays. Message is the loader's, with a line for each mistake.
type ConfigError struct{ Message string }

func (e *ConfigError) Error() string { return e.Message }

// Problem is the body of every answer that is not 200.
type Problem struct {
	Error string `json:"error"`
}

// dialError sorts a failure to connect into the types above.
func dialError(socket string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTSOCK):
		return &NotRunningError{Socket: socket, Err: cause(err)}
	case errors.Is(err, fs.ErrPermission):
		return &PermissionError{Socket: socket, Err: cause(err)}
	default:
		return fmt.Errorf("connect to %s: %w", socket, cause(err))
	}
}

// cause is the system's own word at the end of a chain of net errors.
func cause(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	return err
}
