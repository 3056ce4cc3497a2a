// Package notify is the action notify: it tells people and programs what
// happened, through a command, then a webhook. It touches nothing. The journal is
// told by tcpmemd itself, of every incident and before anything else.
//
// Each channel gets one try per call. What could not be reached is answered as
// Retry, the settings with those channels alone: tcpmemd keeps it in its outbox
// and calls again.
package notify

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/plugins/internal/settings"
	runcommand "github.com/tcpmemd/tcpmemd/plugins/run-command"
	"github.com/tcpmemd/tcpmemd/remediate"
)

const (
	// webhookTime is what a webhook gets, name lookup and TLS included.
	webhookTime = 5 * time.Second
	// answerTime is left of the deadline to say how it went.
	answerTime = 200 * time.Millisecond
)

// Action is notify.
type Action struct{ version string }

// New makes the action of a version.
func New(version string) *Action { return &Action{version} }

// Describe implements remediate.Action.
func (a *Action) Describe() remediate.Description {
	return remediate.Description{
		Name:    "notify",
		Version: a.version,
		About:   "tells: a command, a webhook; the journal is always told",
		Touches: remediate.TouchesNothing,
		Settings: []remediate.Setting{{
			Name: "command", Type: "list",
			About: "an absolute path and arguments; gets the event as JSON on standard input, must only tell",
		}, {
			Name: "webhook", Type: "string",
			About: "http or https URL that the event is posted to as JSON; redirects are not followed",
		}},
	}
}

// Validate implements remediate.Action.
func (a *Action) Validate(ctx context.Context, s remediate.Settings) []remediate.Problem {
	to, problems := a.read(s)
	if to.command != nil {
		if err := to.command.Check(ctx); err != nil {
			problems = append(problems, remediate.Problem{Setting: "command", Message: err.Error()})
		}
	}
	return problems
}

// channels is who is to be told.
type channels struct {
	command *runcommand.Program
	list    []string // the command as it was given
	webhook *target
	url     string // the webhook as it was given: may hold secrets, never told
}

func (a *Action) read(s remediate.Settings) (to channels, problems []remediate.Problem) {
	v, problems := settings.Read(a.Describe().Settings, s)
	if problems != nil {
		return to, problems
	}
	to = channels{list: v.List("command"), url: v.String("webhook")}
	if to.list != nil {
		p, err := runcommand.NewProgram(to.list)
		if err != nil {
			problems = append(problems, remediate.Problem{Setting: "command", Message: err.Error()})
		} else {
			to.command = &p
		}
	}
	if to.url != "" {
		t, err := newTarget(to.url)
		if err != nil {
			problems = append(problems, remediate.Problem{Setting: "webhook", Message: err.Error()})
		}
		to.webhook = t
	}
	return to, problems
}

// Run implements remediate.Action. The code of an undelivered one is the
// channel that was not reached, or several.
func (a *Action) Run(ctx context.Context, r *remediate.Request) (*remediate.Response, error) {
	to, problems := a.read(r.Settings)
	if err := settings.Err(problems); err != nil {
		return nil, err
	}
	if r.DryRun {
		return &remediate.Response{Result: remediate.DryRun, Message: "would tell " + cmp.Or(strings.Join(to.names(), ", "), "nobody but the journal")}, nil
	}
	event, err := runcommand.EventOf(r)
	if err != nil {
		return nil, err
	}
	end := r.Deadline.Add(-answerTime)
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()

	var (
		told   []string
		missed []string
		left   = channels{}
	)
	note := func(channel, name string, err error) bool {
		if err == nil {
			told = append(told, name+": told")
			return false
		}
		missed = append(missed, channel)
		told = append(told, name+": not told: "+err.Error())
		return true
	}
	if to.command != nil {
		until := end
		if to.webhook != nil {
			until = shareOut(time.Now(), end)
		}
		if note("command", "command "+to.command.String(), tellCommand(ctx, *to.command, event, until)) {
			left.list = to.list
		}
	}
	if to.webhook != nil {
		if note("webhook", "webhook "+to.webhook.name(), to.webhook.post(ctx, a.version, event)) {
			left.url = to.url
		}
	}

	resp := &remediate.Response{Result: remediate.Delivered, Message: cmp.Or(strings.Join(told, "; "), "tcpmemd tells the journal; nobody else is named")}
	if missed != nil {
		resp.Result, resp.Code, resp.Retry = remediate.Undelivered, missed[0], left.settings()
		if len(missed) > 1 {
			resp.Code = "several"
		}
	}
	return resp, nil
}

// names lists the channels for a person.
func (c channels) names() (names []string) {
	if c.command != nil {
		names = append(names, "command "+c.command.String())
	}
	if c.webhook != nil {
		names = append(names, "webhook "+c.webhook.name())
	}
	return names
}

// settings writes the channels as they stand in a policy.
func (c channels) settings() remediate.Settings {
	all := make(map[string]any)
	if c.list != nil {
		all["command"] = c.list
	}
	if c.url != "" {
		all["webhook"] = c.url
	}
	s, _ := json.Marshal(all) // texts
	return s
}

// shareOut gives the end of the command where a webhook comes after it: so
// that it has its time, or half of what there is.
func shareOut(now, end time.Time) time.Time {
	left := end.Sub(now)
	return end.Add(-min(webhookTime, left/2))
}

func tellCommand(ctx context.Context, p runcommand.Program, event []byte, until time.Time) error {
	if err := p.Check(ctx); err != nil {
		return err
	}
	exit, err := p.Run(ctx, event, until)
	if err != nil {
		return err
	}
	if result, _ := exit.Result(); result != remediate.Done {
		return errors.New(exit.String())
	}
	return nil
}
