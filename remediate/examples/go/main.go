// Command append-line is an action for tcpmemd: it appends a line to a file.
// It is of a module of its own and imports package remediate alone.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tcpmemd/tcpmemd/remediate"
)

func main() { remediate.Serve(action{}) }

// action implements remediate.Action.
type action struct{}

type settings struct {
	File string `json:"file"`
}

func read(raw remediate.Settings) (s settings, problems []remediate.Problem) {
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return s, []remediate.Problem{{Message: err.Error()}}
	}
	if !filepath.IsAbs(s.File) {
		problems = append(problems, remediate.Problem{Setting: "file", Message: "want an absolute path"})
	}
	return s, problems
}

func (action) Describe() remediate.Description {
	return remediate.Description{
		Name: "append-line", Version: "1.0", About: "append a line about the incident to a file",
		Touches: remediate.TouchesNothing,
		Settings: []remediate.Setting{
			{Name: "file", Type: "string", Required: true, About: "absolute path of the file"},
		},
	}
}

func (action) Validate(_ context.Context, raw remediate.Settings) []remediate.Problem {
	_, problems := read(raw)
	return problems
}

func (action) Run(_ context.Context, r *remediate.Request) (*remediate.Response, error) {
	s, problems := read(r.Settings)
	for _, p := range problems {
		return &remediate.Response{Result: remediate.Refused, Code: "settings", Message: "setting " + p.Setting + ": " + p.Message}, nil
	}
	line, _, _ := strings.Cut(r.Text, "\n")
	answer := &remediate.Response{Changes: []remediate.Change{{What: s.File, After: line}}}
	if r.DryRun {
		answer.Result, answer.Message = remediate.DryRun, "would append a line"
		return answer, nil
	}
	f, err := os.OpenFile(s.File, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err == nil {
		_, err = fmt.Fprintln(f, r.IncidentID, line)
		if e := f.Close(); err == nil {
			err = e
		}
	}
	if err != nil {
		return &remediate.Response{Result: remediate.Undelivered, Code: "write", Message: err.Error()}, nil
	}
	answer.Result, answer.Message = remediate.Delivered, "appended a line"
	return answer, nil
}
