package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tcpmemd/tcpmemd/cmd/internal/words"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Exit codes of health: node-problem-detector takes 0 for a condition that is
// false, 1 for one that is true and anything else for unknown.
const (
	HealthFine    = 0
	HealthProblem = 1
	HealthUnknown = 2
)

// Exit codes of health --nagios, as Nagios' guidelines for plugins have them.
const (
	NagiosOK       = 0
	NagiosWarning  = 1
	NagiosCritical = 2
	NagiosUnknown  = 3
)

// healthTime is how long an answer may take. Monitors end a check after 5 s or
// more, and would then say so in their words.
const healthTime = 2 * time.Second

// checkup is one run of health.
type checkup struct {
	nagios  bool
	steady  bool
	timeout time.Duration

	done bool // the line is out
	code int
}

// healthDoc is what --json prints: Health is null where nobody told anything.
type healthDoc struct {
	Version  int              `json:"version"`
	Status   api.HealthStatus `json:"status"`
	ExitCode int              `json:"exit_code"`
	Line     string           `json:"line"`
	Health   *api.Health      `json:"health"`
}

func (c *command) health() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Whether TCP memory is short, for a monitor: one line and an exit code",
		Long: `Whether TCP memory is short, for a monitor: one line of at most 80 bytes.

Exit codes: 0 no problem, 1 a problem, 2 unknown; with --nagios 0 OK, 1 warning,
2 critical, 3 unknown. What cannot be told in time is unknown, never fine.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.checkup.timeout <= 0 {
				return usagef("--timeout %s: want a time to wait", c.checkup.timeout)
			}
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), c.checkup.timeout,
				fmt.Errorf("no answer within %s", c.checkup.timeout))
			defer cancel()
			doc, err := c.askHealth(ctx)
			if err != nil {
				return err
			}
			return c.tellHealth(doc, "")
		},
	}
	cmd.Flags().BoolVar(&c.checkup.nagios, "nagios", false, "print and exit as a Nagios plugin")
	cmd.Flags().BoolVar(&c.checkup.steady, "steady", false, "print numbers in steps of ten, for readers that act on each change")
	cmd.Flags().DurationVar(&c.checkup.timeout, "timeout", healthTime, "how long to wait for an answer")
	return cmd
}

func (c *command) askHealth(ctx context.Context) (*api.Health, error) {
	if !c.direct {
		client := api.Dial(c.socket)
		defer client.Close()
		doc, err := client.Health(ctx)
		if err == nil && !sound(doc) {
			return nil, io.ErrUnexpectedEOF
		}
		return doc, err
	}
	src, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	direct := src.(*directSource).direct
	r, err := direct.Read(ctx)
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	m := direct.Meta()
	m.Source = api.SourceDirect
	return api.HealthFrom(m, api.StateOf(r)), nil
}

// sound is false for a document that says less than it must to be believed.
func sound(doc *api.Health) bool {
	known := doc.Status == api.HealthOK || doc.Status == api.HealthProblem
	return doc.Version == api.Version && !doc.TakenAt.IsZero() &&
		(!known || !doc.Stale && doc.Memory.Level != reading.Unknown)
}

// endHealth is how every run of health ends, also one whose flags are wrong: a
// monitor reads standard output and nothing else.
func (c *command) endHealth(err error) int {
	if c.checkup.done || err == nil {
		return c.checkup.code // or it was --help
	}
	if !c.running {
		// The flags may not have been read as far as these.
		c.checkup.nagios = c.checkup.nagios || slices.Contains(c.Args, "--nagios")
		c.json = c.json || slices.Contains(c.Args, "--json")
		err = &usageError{err}
	}
	if err := c.tellHealth(nil, whyNoHealth(err)); err != nil {
		return c.unknownHealth()
	}
	return c.checkup.code
}

func (c *command) unknownHealth() int {
	if c.checkup.nagios {
		return NagiosUnknown
	}
	return HealthUnknown
}

// tellHealth prints the line. Without a document it says why there is none.
func (c *command) tellHealth(doc *api.Health, why string) error {
	status := api.HealthUnknown
	if doc != nil {
		status = doc.Status
	}
	code, word := c.unknownHealth(), "UNKNOWN"
	switch {
	case status == api.HealthOK:
		code, word = HealthFine, "OK"
	case status == api.HealthProblem && c.checkup.nagios && doc.Critical:
		code, word = NagiosCritical, "CRITICAL"
	case status == api.HealthProblem:
		code, word = HealthProblem, "WARNING"
	default:
		status = api.HealthUnknown
	}
	prefix, data := "", ""
	if status == api.HealthUnknown {
		prefix = "unknown: "
	}
	if c.checkup.nagios {
		prefix = "TCPMEM " + word + " - "
		if status != api.HealthUnknown {
			data = "|" + perfData(doc)
		}
	}
	room := words.MaxHealth - len(prefix)
	var line string
	if doc != nil {
		line = words.Health(doc, room, c.checkup.steady)
	} else {
		line = words.HealthUnknown(why, room)
	}
	line = prefix + line + data
	var err error
	if c.json {
		err = c.encode(healthDoc{Version: api.Version, Status: status, ExitCode: code, Line: line, Health: doc})
	} else {
		_, err = fmt.Fprintln(c.Stdout, line)
	}
	c.checkup.done, c.checkup.code = err == nil, code
	return err
}

// perfData is for the graphs of Nagios and its like: 'label'=value[unit];warn;crit;min;max.
func perfData(doc *api.Health) string {
	m := &doc.Memory
	page := int64(m.PageSize)
	data := fmt.Sprintf("tcp_memory=%dB;%d;%d;0;%d", m.UsedBytes, int64(m.PressurePages)*page, int64(m.MaxPages)*page/10*9, m.MaxBytes)
	if o := doc.Owner; o != nil {
		data += fmt.Sprintf(" worst_owner=%dB;;;0", o.Bytes)
	}
	return data
}

// whyNoHealth is short: the line has room for little else.
func whyNoHealth(err error) string {
	var net interface{ Timeout() bool }
	switch {
	case isUsage(err):
		return strings.ReplaceAll(err.Error(), `"`, "")
	case isNotRunning(err):
		return "tcpmemd is not running"
	case isDenied(err), errors.Is(err, fs.ErrPermission):
		return "no permission to ask tcpmemd (group tcpmemd)"
	case errors.As(err, &net) && net.Timeout():
		return "tcpmemd does not answer"
	case isGarbage(err):
		return "what answers on the socket is not understood"
	}
	if refusal, ok := errors.AsType[*api.RequestError](err); ok {
		if refusal.NotFound() {
			return "this tcpmemd is too old to be asked"
		}
		return refusal.Message
	}
	return err.Error()
}

func isNotRunning(err error) bool {
	_, ok := errors.AsType[*api.NotRunningError](err)
	return ok
}

// isGarbage: what came is no document.
func isGarbage(err error) bool {
	_, syntax := errors.AsType[*json.SyntaxError](err)
	_, kind := errors.AsType[*json.UnmarshalTypeError](err)
	return syntax || kind || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}
