package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/config"
	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/nearest"
)

// Abilities are the actions that a policy may name.
type Abilities interface {
	Infos() map[string]policy.ActionInfo
	List() []policy.ActionInfo
	CheckStep(r *policy.Rule, s *policy.Step) []config.Problem
}

func (c *command) policy() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Check, show and try policies",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.policyCheck(), readsExport(c.policyShow()), c.policyVariables(), readsExport(c.policyTest()))
	return cmd
}

// loaded is a configuration with its rules.
type loaded struct {
	config config.Loaded
	policy config.Policy
	infos  map[string]policy.ActionInfo
}

// load reads the files of this host; drafts are laid over them, one over the
// other. The error is that of the files, and what is right of them is given all
// the same.
func (c *command) load(ctx context.Context, drafts ...string) (loaded, error) {
	l, err := config.Load(config.Options{Root: c.Root})
	o := config.Options{Root: c.Root, PolicyFiles: drafts}
	all := loaded{config: l}
	if c.Abilities != nil {
		can := c.Abilities(ctx, l.Config.Plugins)
		all.infos = can.Infos()
		o.Actions, o.CheckStep = can.List(), can.CheckStep
	}
	p, perr := config.LoadPolicy(o)
	all.policy = p
	return all, errors.Join(err, perr)
}

// mistake is one of a file, in JSON.
type mistake struct {
	File    string `json:"file"`
	Line    *int   `json:"line"`
	Column  *int   `json:"column"`
	Message string `json:"message"`
}

// checked is the document of "tcpmemctl policy check --json".
type checked struct {
	Version  int       `json:"version"`
	OK       bool      `json:"ok"`
	Rules    int       `json:"rules"`
	Files    []string  `json:"files"`
	Mistakes []mistake `json:"mistakes"`
}

func (c *command) policyCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE...]",
		Short: "Look for mistakes in the files of this host, or in drafts",
		Long: `Look for mistakes in tcpmemd.toml and policy.d of this host. Each FILE is a draft
that is laid over them, one at a time. No daemon is asked. The exit code is 6
where there is a mistake.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			drafts := [][]string{nil}
			if len(args) > 0 {
				drafts = slices.Collect(slices.Chunk(args, 1))
			}
			doc := checked{Version: api.Version, Files: []string{}, Mistakes: []mistake{}}
			var errs []error
			for _, draft := range drafts {
				l, err := c.load(cmd.Context(), draft...)
				doc.Rules = len(l.policy.Rules)
				for _, file := range append(l.config.Files, l.policy.Files...) {
					if !slices.Contains(doc.Files, file) {
						doc.Files = append(doc.Files, file)
					}
				}
				// A mistake of this host's files is there under each draft.
				for _, e := range mistakesOf(err) {
					if slices.ContainsFunc(errs, func(said error) bool { return said.Error() == e.Error() }) {
						continue
					}
					errs = append(errs, e)
					m := mistake{File: e.File, Message: e.Err.Error()}
					if e.Line > 0 {
						m.Line = &e.Line
					}
					if e.Column > 0 {
						m.Column = &e.Column
					}
					doc.Mistakes = append(doc.Mistakes, m)
				}
			}
			doc.OK = len(errs) == 0
			if doc.OK || c.json {
				errs = append(errs, c.put(doc, oneLine(fmt.Sprintf("ok: %s of %s", prose.Plural(int64(doc.Rules), "rule"), prose.Plural(int64(len(doc.Files)), "file")))))
			}
			return errors.Join(errs...)
		},
	}
}

func (c *command) policyShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show [RULE...]",
		Short: "The effective policy, with where each value is from",
		Long: `Print the policy that the daemon decides by as one file, with where each value is
from behind it, or only the RULEs of it. With --direct it is what the files of this
host make now, without a daemon.`,
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
			return c.completeRule(cmd, nil, begun)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.direct {
				l, err := c.load(cmd.Context())
				doc := &api.Policy{Version: api.Version, Text: config.EffectiveTOML(l.policy), Files: append(l.config.Files, l.policy.Files...), Broken: []string{}}
				if doc.Files == nil {
					doc.Files = []string{}
				}
				for _, m := range mistakesOf(err) {
					doc.Broken = append(doc.Broken, m.Error())
				}
				text, pickErr := pickRules(doc.Text, args)
				if pickErr != nil {
					return pickErr
				}
				doc.Text = text
				return errors.Join(c.put(doc, policyPage(doc)), err)
			}
			return c.ask(cmd.Context(), func(ctx context.Context, t teller) (any, page, error) {
				doc, err := t.Policy(ctx)
				if err == nil {
					doc.Text, err = pickRules(doc.Text, args)
				}
				if err != nil {
					return nil, nil, err
				}
				return doc, policyPage(doc), nil
			})
		},
	}
}

// pickRules takes the rules of those names out of a policy's text, in its order;
// all of it where there are none.
func pickRules(text string, names []string) (string, error) {
	if len(names) == 0 {
		return text, nil
	}
	var known, picked []string
	for _, part := range strings.Split(text, "\n\n[rule.")[1:] { // no value has an empty line before a bracket
		name, _, _ := strings.Cut(part, "]")
		known = append(known, name)
		if slices.Contains(names, name) {
			picked = append(picked, "[rule."+strings.TrimRight(part, "\n")+"\n")
		}
	}
	for _, name := range names {
		if slices.Contains(known, name) {
			continue
		}
		if near := nearest.Name(name, known); near != "" {
			return "", usagef("no rule is called %.70q; did you mean %q?", name, near)
		}
		return "", usagef("no rule is called %.70q: there are %s", name, strings.Join(known, ", "))
	}
	return strings.Join(picked, "\n"), nil
}

// policyPage is the text as it is: it can be saved as a file.
func policyPage(doc *api.Policy) page {
	return func(int, layout.Painter) []string {
		lines := strings.Split(strings.TrimRight(doc.Text, "\n"), "\n")
		for i := range lines {
			lines[i] = printable(strings.ReplaceAll(lines[i], "\t", "    "))
		}
		return lines
	}
}

// mistakesOf lists the errors of files that are joined in err.
func mistakesOf(err error) []*config.Error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*config.Error
		for _, err := range joined.Unwrap() {
			all = append(all, mistakesOf(err)...)
		}
		return all
	}
	if e, ok := errors.AsType[*config.Error](err); ok {
		return []*config.Error{e}
	}
	return nil
}

// variable is one of those of "tcpmemctl policy variables --json".
type variable struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Unit     *string  `json:"unit"`
	Values   []string `json:"values"`
	Each     string   `json:"each"` // sample or reading
	Nullable bool     `json:"nullable"`
	Scopes   []string `json:"for_each"`
	Doc      string   `json:"doc"`
}

type variables struct {
	Version   int        `json:"version"`
	Variables []variable `json:"variables"`
}

func (c *command) policyVariables() *cobra.Command {
	return &cobra.Command{
		Use:   "variables",
		Short: "What a condition may ask for",
		Long: `List the variables of conditions: their type and unit, and whether they are new with
each sample of counters or with each scan of the sockets. Those of owners are for
rules with for_each.`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			doc := variables{Version: api.Version}
			for _, v := range policy.Variables() {
				one := variable{
					Name: v.Name, Type: string(v.Type), Values: append([]string{}, v.Values...), Each: string(v.Cadence),
					Nullable: v.Nullable, Scopes: []string{}, Doc: v.Doc,
				}
				if v.Unit != "" {
					one.Unit = &v.Unit
				}
				for _, s := range v.Scopes() {
					one.Scopes = append(one.Scopes, string(s))
				}
				doc.Variables = append(doc.Variables, one)
			}
			return c.put(doc, func(columns int, paint layout.Painter) []string { return variablesPage(doc.Variables, columns, paint) })
		},
	}
}

func variablesPage(list []variable, columns int, paint layout.Painter) []string {
	t := layout.Table{Columns: []layout.Column{{Title: "VARIABLE"}, {Title: "TYPE"}, {Title: "EACH"}, {Title: "UNKNOWN", Rank: 1}, {Title: "MEANING", Least: 20, Rank: 2}}}
	for _, v := range list {
		nullable := "-"
		if v.Nullable {
			nullable = "can be"
		}
		meaning := v.Doc
		if v.Unit != nil {
			meaning += " (" + *v.Unit + ")"
		}
		if len(v.Values) > 0 {
			meaning += ": " + strings.Join(v.Values, ", ")
		}
		row := t.Add(v.Name, v.Type, v.Each, nullable)
		if columns > 0 {
			row.Cells = append(row.Cells, layout.Cell{})
			row.Under = []string{prose.Escape(meaning)}
		} else {
			row.Cells = append(row.Cells, layout.Cell{Text: prose.Escape(meaning)})
		}
	}
	return t.Lines(columns, paint)
}
