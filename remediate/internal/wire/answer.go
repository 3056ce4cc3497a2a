// Package wire is the host's half of the contract's messages: requests as they
// are sent, and answers as they are believed. Package remediate has the other
// half, which plugins need.
package wire

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/tcpmemd/tcpmemd/remediate"
	"github.com/tcpmemd/tcpmemd/remediate/launch"
	"github.com/tcpmemd/tcpmemd/remediate/proto"
)

// What a plugin answers is checked before anything believes it: an answer that
// is not within the contract is no answer. Control characters in what is for
// people are escaped, not refused.

const (
	maxSettings  = 64
	maxClasses   = 16
	maxPredicted = 1 << 50 // bytes; no host has so many
)

// Call is what is answered.
type Call int

// Calls with a Response.
const (
	Run Call = iota
	DryRun
	Undo
)

var (
	nameForm    = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9])*$`)
	settingForm = regexp.MustCompile(`^[a-z0-9]([_-]?[a-z0-9])*$`)

	settingTypes  = []string{"string", "bool", "int", "float", "duration", "bytes", "share", "list"}
	evidenceKinds = []string{"fd", "listener", "closed-by", "last-seen", "cgroup", "netns"}
)

var touchesFromProto = map[proto.Touches]remediate.Touches{
	proto.Touches_TOUCHES_NOTHING: remediate.TouchesNothing,
	proto.Touches_TOUCHES_HOST:    remediate.TouchesHost,
	proto.Touches_TOUCHES_OWNER:   remediate.TouchesOwner,
}

var resultFromProto = map[proto.Result]remediate.Result{
	proto.Result_RESULT_DONE:        remediate.Done,
	proto.Result_RESULT_REFUSED:     remediate.Refused,
	proto.Result_RESULT_FAILED:      remediate.Failed,
	proto.Result_RESULT_TIMED_OUT:   remediate.TimedOut,
	proto.Result_RESULT_DRY_RUN:     remediate.DryRun,
	proto.Result_RESULT_DELIVERED:   remediate.Delivered,
	proto.Result_RESULT_UNDELIVERED: remediate.Undelivered,
}

func invalid(format string, args ...any) error { return fmt.Errorf(format, args...) }

// Description checks what the plugin of a name says of itself.
func Description(name string, d *proto.Description) (*remediate.Description, error) {
	out := &remediate.Description{
		Name: d.GetName(), Version: d.GetVersion(), About: d.GetAbout(), Touches: touchesFromProto[d.GetTouches()],
		Capabilities: d.GetCapabilities(), Evidence: d.GetEvidence(), EvidenceShare: d.GetEvidenceShare(),
		Connections: d.GetConnections(), NeedsSockets: d.GetNeedsSockets(), Lease: d.GetLease(), CanUndo: d.GetCanUndo(),
	}
	switch {
	case out.Name != name:
		return nil, invalid("it calls itself \"%s\"", Printable(out.Name, remediate.MaxCodeBytes))
	case len(out.Version) > remediate.MaxCodeBytes || out.Version != Printable(out.Version, remediate.MaxCodeBytes):
		return nil, invalid("its version is too long or not printable")
	case len(out.About) > remediate.MaxTextBytes:
		return nil, invalid("its description is longer than %d bytes", remediate.MaxTextBytes)
	case out.Touches == "":
		return nil, invalid("it does not say what it touches (%d)", d.GetTouches())
	case !(out.EvidenceShare >= 0 && out.EvidenceShare <= 1): // so that NaN is refused
		return nil, invalid("its share of evidence is %v, not 0 to 1", out.EvidenceShare)
	case out.Lease && !out.CanUndo:
		return nil, invalid("it lends but cannot undo")
	case len(d.GetSettings()) > maxSettings:
		return nil, invalid("it has %d settings, %d are the limit", len(d.GetSettings()), maxSettings)
	}
	out.About = Printable(out.About, remediate.MaxTextBytes)
	for _, c := range out.Capabilities {
		if _, err := launch.ParseCap(c); err != nil {
			return nil, invalid("it needs \"%s\", which is no capability", Printable(c, remediate.MaxCodeBytes))
		}
	}
	for _, e := range out.Evidence {
		if !slices.Contains(evidenceKinds, e) {
			return nil, invalid("it wants evidence \"%s\", which there is not", Printable(e, remediate.MaxCodeBytes))
		}
	}
	for _, s := range d.GetSettings() {
		set := remediate.Setting{Name: s.GetName(), Type: s.GetType(), Required: s.GetRequired(), Default: s.GetDefault(), About: s.GetAbout()}
		switch {
		case len(set.Name) > remediate.MaxCodeBytes || !settingForm.MatchString(set.Name):
			return nil, invalid("a setting is called \"%s\"", Printable(set.Name, remediate.MaxCodeBytes))
		case slices.ContainsFunc(out.Settings, func(o remediate.Setting) bool { return o.Name == set.Name }):
			return nil, invalid("setting %s is there twice", set.Name)
		case !slices.Contains(settingTypes, set.Type):
			return nil, invalid("setting %s is of type \"%s\"", set.Name, Printable(set.Type, remediate.MaxCodeBytes))
		case len(set.Default) > remediate.MaxTextBytes || len(set.About) > remediate.MaxTextBytes:
			return nil, invalid("setting %s has a text longer than %d bytes", set.Name, remediate.MaxTextBytes)
		}
		set.About = Printable(set.About, remediate.MaxTextBytes)
		out.Settings = append(out.Settings, set)
	}
	return out, nil
}

// Problems checks the answer to Validate.
func Problems(v *proto.ValidateResponse) (problems []remediate.Problem, err error) {
	if n := len(v.GetProblems()); n > remediate.MaxProblems {
		return nil, invalid("it has %d problems, %d are the limit", n, remediate.MaxProblems)
	}
	for _, p := range v.GetProblems() {
		if len(p.GetSetting()) > remediate.MaxTextBytes || len(p.GetMessage()) > remediate.MaxTextBytes {
			return nil, invalid("a problem's text is longer than %d bytes", remediate.MaxTextBytes)
		}
		problems = append(problems, remediate.Problem{
			Setting: Printable(p.GetSetting(), remediate.MaxTextBytes),
			Message: Printable(p.GetMessage(), remediate.MaxTextBytes),
		})
	}
	return problems, nil
}

// allowed are the results that an answer may have.
func allowed(d *remediate.Description, call Call) []remediate.Result {
	results := []remediate.Result{remediate.Refused, remediate.Failed, remediate.TimedOut}
	switch {
	case call == DryRun:
		return append(results, remediate.DryRun)
	case call == Run && d.Touches == remediate.TouchesNothing:
		return append(results, remediate.Done, remediate.Delivered, remediate.Undelivered)
	}
	return append(results, remediate.Done)
}

// Response checks the answer to a call of an action that describes itself as d.
func Response(d *remediate.Description, call Call, r *proto.Response) (*remediate.Response, error) {
	out := &remediate.Response{Result: resultFromProto[r.GetResult()], Code: r.GetCode(), Predicted: r.GetPredicted()}
	switch {
	case out.Result == "":
		return nil, invalid("its result is %d, which there is not", r.GetResult())
	case !slices.Contains(allowed(d, call), out.Result):
		if call == DryRun {
			return nil, invalid("a dry run cannot be \"%s\"", out.Result)
		}
		return nil, invalid("\"%s\" is no result of this call", out.Result)
	case len(out.Code) > remediate.MaxCodeBytes || out.Code != "" && !nameForm.MatchString(out.Code):
		return nil, invalid("its code is \"%s\", no word", Printable(out.Code, remediate.MaxCodeBytes))
	case len(r.GetMessage()) > remediate.MaxMessageBytes:
		return nil, invalid("its message is longer than %d bytes", remediate.MaxMessageBytes)
	case len(r.GetChanges()) > remediate.MaxChanges:
		return nil, invalid("it lists %d changes, %d are the limit", len(r.GetChanges()), remediate.MaxChanges)
	case len(out.Predicted) > maxClasses:
		return nil, invalid("it predicts for %d classes", len(out.Predicted))
	}
	out.Message = lines(r.GetMessage())
	for class, n := range out.Predicted {
		if len(class) > remediate.MaxCodeBytes || !nameForm.MatchString(class) || n < 0 || n > maxPredicted {
			return nil, invalid("it predicts %d bytes of \"%s\"", n, Printable(class, remediate.MaxCodeBytes))
		}
	}
	for _, c := range r.GetChanges() {
		if max(len(c.GetWhat()), len(c.GetBefore()), len(c.GetAfter())) > remediate.MaxTextBytes {
			return nil, invalid("a change is longer than %d bytes", remediate.MaxTextBytes)
		}
		out.Changes = append(out.Changes, remediate.Change{
			What:   Printable(c.GetWhat(), remediate.MaxTextBytes),
			Before: Printable(c.GetBefore(), remediate.MaxTextBytes),
			After:  Printable(c.GetAfter(), remediate.MaxTextBytes),
		})
	}
	undo, err := kept("undo", r.GetUndoJson(), false)
	if err != nil {
		return nil, err
	}
	retry, err := kept("retry", r.GetRetryJson(), true)
	if err != nil {
		return nil, err
	}
	out.Undo, out.Retry = undo, remediate.Settings(retry)
	return out, nil
}

// IsName says whether s can be an action's name.
func IsName(s string) bool { return len(s) <= remediate.MaxCodeBytes && nameForm.MatchString(s) }

// kept is JSON that the daemon stores and gives back.
func kept(what, text string, object bool) (json.RawMessage, error) {
	switch {
	case text == "":
		return nil, nil
	case len(text) > remediate.MaxJSONBytes:
		return nil, invalid("its %s is longer than %d bytes", what, remediate.MaxJSONBytes)
	case !json.Valid([]byte(text)):
		return nil, invalid("its %s is no JSON", what)
	case object && !strings.HasPrefix(strings.TrimSpace(text), "{"):
		return nil, invalid("its %s is no JSON object", what)
	}
	return json.RawMessage(text), nil
}

// lines escapes each line of a text.
func lines(s string) string {
	var out []string
	for line := range strings.SplitSeq(s, "\n") {
		out = append(out, Printable(line, remediate.MaxMessageBytes))
	}
	return strings.Join(out, "\n")
}
