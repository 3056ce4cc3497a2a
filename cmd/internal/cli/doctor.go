package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/cmd/internal/words"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

func (c *command) doctor() *cobra.Command {
	bundle := ""
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "What this host and these rights allow, and what each lack costs",
		Long: `Look at what tcpmemd needs of the kernel, the host and its own rights, and say
what each lack costs. With --direct the rights are those of the caller, without
it those of the daemon. What lacks is a finding, not a failure: the exit code is
0 as soon as every check could be made.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if bundle != "" {
				return c.exportTo(cmd.Context(), bundle, time.Time{})
			}
			return c.show(cmd.Context(), func(ctx context.Context, src source) (any, page, error) {
				doc, err := src.Doctor(ctx)
				if err != nil {
					return nil, nil, err
				}
				return doc, func(columns int, paint layout.Painter) []string { return doctorPage(doc, columns, paint) }, nil
			})
		},
	}
	cmd.Flags().StringVar(&bundle, "bundle", "", "write all that the daemon knows to `FILE`, as export -o does")
	return cmd
}

func doctorPage(doc *api.Doctor, columns int, paint layout.Painter) []string {
	who := "the daemon's rights"
	if doc.Source == api.SourceDirect {
		who = "the caller's rights"
	}
	out := layout.Wrap(fmt.Sprintf("%s on %s, with %s", paint.Style("tcpmem doctor", layout.Bold), prose.Escape(doc.Hostname), who), columns, "  ")
	out = append(out, "")
	lacks := 0
	for i := range doc.Checks {
		check := &doc.Checks[i]
		if check.Status != api.DoctorOK {
			lacks++
		}
		status := paint.Style(string(check.Status), doctorStyle(check.Status))
		pad := strings.Repeat(" ", max(len(doctorIndent)-layout.Width(status), 1))
		out = append(out, layout.Wrap(status+pad+prose.Escape(check.Name)+": "+words.Sentence(check.What), columns, doctorIndent)...)
		if check.Costs != nil {
			out = append(out, layout.Wrap(doctorIndent+"costs: "+words.Sentence(*check.Costs), columns, doctorIndent)...)
		}
	}
	out = append(out, "")
	if lacks == 0 {
		return append(out, "Nothing lacks.")
	}
	return append(out, fmt.Sprintf("%d of %s not in order.", lacks, prose.Plural(int64(len(doc.Checks)), "check")))
}

// doctorIndent is as wide as the longest status with its gap.
const doctorIndent = "          "

func doctorStyle(s api.DoctorStatus) layout.Style {
	switch s {
	case api.DoctorOK:
		return layout.Good
	case api.DoctorDegraded:
		return layout.Warn
	default:
		return layout.Bad
	}
}
