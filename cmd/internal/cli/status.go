package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/cmd/internal/words"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

func (c *command) status() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Level, fill, trend and the biggest owners",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if html, err := c.wantsHTML(); err != nil {
				return err
			} else if html {
				return c.statusHTML(cmd.Context())
			}
			return c.show(cmd.Context(), func(ctx context.Context, src source) (any, page, error) {
				doc, err := src.Status(ctx)
				if err != nil {
					return nil, nil, err
				}
				return doc, func(columns int, paint layout.Painter) []string { return statusPage(doc, columns, paint) }, nil
			})
		},
	}
	c.watchFlag(cmd)
	c.htmlFlags(cmd)
	return cmd
}

func statusPage(doc *api.Status, columns int, paint layout.Painter) []string {
	var out []string
	say := func(s string) { out = append(out, layout.Wrap(s, columns, "  ")...) }
	m := &doc.Memory
	say(words.Title("TCP memory", &doc.Header, paint))
	say(words.Used(m, paint))
	if doc.Since != nil {
		say(fmt.Sprintf("%s since %s (%s)", doc.Level, prose.Time(*doc.Since), prose.Duration(doc.TakenAt.Sub(*doc.Since))))
	}
	if s := words.Trend(m, paint); s != "" {
		say(s)
	}
	say(orphanCount(&doc.Orphans))
	if s := kernelLine(doc, paint); s != "" {
		say(s)
	}
	if doc.Ledger == nil {
		say("no full scan yet: who holds it is not known")
	} else if s := words.Coverage(doc.Ledger, m); s != "" {
		if *doc.ScanAgeSeconds >= 1 {
			s += ", by a scan " + prose.Seconds(*doc.ScanAgeSeconds) + " ago"
		}
		say(s)
	}

	if shown, _ := firstOwners(doc.TopOwners, api.TopOwners); len(shown) > 0 {
		out = append(out, "")
		out = append(out, ownersTable(shown, words.Whole(doc.Ledger, m)).Lines(columns, paint)...)
		if n := doc.Truncated.Owners; n > 0 && doc.Truncated.Bytes > 0 {
			say(fmt.Sprintf("and %s with %s (shown by tcpmemctl owners)", prose.Plural(int64(n), "more owner"), prose.Bytes(doc.Truncated.Bytes)))
		}
	} else if doc.Ledger != nil {
		say(nobody(doc.Ledger, m))
	}

	if doc.Ledger != nil {
		out = appendBlock(out, words.Rest(doc.Ledger, m, doc.Gaps, columns, paint))
	} else {
		out = appendBlock(out, words.Gaps(doc.Gaps, columns, paint))
	}
	out = appendBlock(out, words.Conduct(doc, columns, paint))
	out = append(out, "")
	say(daemonLine(doc))
	return out
}

// orphanCount is the kernel's count beside its limit.
func orphanCount(o *api.OrphanCount) string {
	s := fmt.Sprintf("orphans %d of %d allowed (%s)", o.Count, o.Limit, prose.Share(o.Count, o.Limit))
	if o.Seen != nil && *o.Seen != o.Count {
		s += fmt.Sprintf(", %d seen", *o.Seen)
	}
	return s
}

// kernelLine says what the kernel has suffered since the daemon started; "" where
// that is nothing.
func kernelLine(doc *api.Status, paint layout.Painter) string {
	var parts []string
	add := func(n *int64, what string) {
		if n != nil && *n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", what, *n))
		}
	}
	k := &doc.Kernel
	add(k.AbortsOnMemory, "connections aborted for lack of memory")
	add(k.MemoryPressures, "entries into pressure")
	add(k.LogOutOfMemory, `logged "out of memory"`)
	add(k.LogOrphans, `logged "too many orphaned sockets"`)
	add(k.LogConntrackFull, `logged "nf_conntrack: table full"`)
	if c := doc.Conntrack; c != nil && c.Limit != nil && 4*c.Count > 3**c.Limit {
		parts = append(parts, fmt.Sprintf("connection tracking %d of %d", c.Count, *c.Limit))
	}
	if len(parts) == 0 {
		return ""
	}
	return paint.Style("the kernel, since the daemon started", layout.Warn) + ": " + strings.Join(parts, ", ")
}

// daemonLine says who answers and what that costs.
func daemonLine(doc *api.Status) string {
	s := "tcpmemd " + prose.Escape(doc.DaemonVersion) + ", mode " + prose.Escape(doc.Mode)
	if doc.ModeWhy != nil {
		s += " (" + prose.Escape(*doc.ModeWhy) + ")"
	}
	s += ", tier " + prose.Escape(doc.Tier)
	if doc.RulesLoaded > 0 {
		s += ", " + prose.Plural(int64(doc.RulesLoaded), "rule")
	}
	if doc.Source == api.SourceDirect {
		s = "without a daemon, tier " + prose.Escape(doc.Tier)
	}
	if doc.Started != nil {
		s += ", since " + prose.Time(*doc.Started)
	}
	if doc.Cost != nil {
		s += fmt.Sprintf(", used %.1f s of CPU and %s", doc.Cost.CPUSeconds, prose.Bytes(doc.Cost.RSSBytes))
	}
	return s
}
