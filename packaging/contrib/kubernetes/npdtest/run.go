package npdtest

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// maxRead is how much of a plugin's output is kept; the rest is read and
// thrown away.
const maxRead = 4 << 10

// Result is what a run of a plugin came to.
type Result struct {
	Status  string // of the condition: False for exit code 0, True for 1, Unknown for all else
	Message string // standard output, trimmed and cut
	Stderr  string // goes to the detector's log and nowhere else
	Took    time.Duration
}

// Run runs the plugin of a rule as the detector does: with its own
// environment, in a process group that is killed at the timeout.
func (c *Config) Run(r *Rule) Result {
	timeout := c.Global.Timeout
	if r.Timeout > 0 {
		timeout = min(timeout, r.Timeout)
	}
	started := time.Now()
	// Not CommandContext: that would kill the process alone, and later.
	cmd := exec.Command(r.Path, r.Args...) //nolint:noctx // see above
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return Result{Status: "Unknown", Message: "Error creating stdout pipe for plugin. Please check the error log"}
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return Result{Status: "Unknown", Message: "Error creating stderr pipe for plugin. Please check the error log"}
	}
	if err := cmd.Start(); err != nil {
		return Result{Status: "Unknown", Message: "Error in starting plugin. Please check the error log"}
	}
	var late atomic.Bool
	timer := time.AfterFunc(time.Duration(timeout), func() {
		late.Store(true)
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	})
	defer timer.Stop()

	var out, errs []byte
	var outErr, errsErr error
	var reading sync.WaitGroup
	reading.Go(func() { out, outErr = read(stdout) })
	reading.Go(func() { errs, errsErr = read(stderr) })
	reading.Wait()
	err = cmd.Wait()
	if _, exit := errors.AsType[*exec.ExitError](err); err != nil && !exit || outErr != nil || errsErr != nil {
		return Result{Status: "Unknown", Message: "Error in waiting for plugin. Please check the error log"}
	}

	result := Result{Status: "Unknown", Message: strings.TrimSpace(string(out)), Stderr: string(errs), Took: time.Since(started)}
	if late.Load() {
		result.Message = fmt.Sprintf("Timeout when running plugin %q: state - %s. output - %q", r.Path, cmd.ProcessState, result.Message)
	}
	// By bytes: a character may be cut in two.
	result.Message = result.Message[:min(len(result.Message), *c.Global.MaxOutput)]
	switch cmd.ProcessState.ExitCode() {
	case 0:
		result.Status = "False"
	case 1:
		result.Status = "True"
	}
	return result
}

func read(from io.Reader) ([]byte, error) {
	kept, err := io.ReadAll(io.LimitReader(from, maxRead))
	if err == nil {
		_, err = io.Copy(io.Discard, from)
	}
	return kept, err
}
