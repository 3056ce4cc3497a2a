package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

func (c *command) doctor() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "What this host and these rights allow, and what each lack costs",
		Long: `Look at what tcpmemd needs of the kernel, the host and its own rights, and say
what each lack costs. With --direct the rights are those of the caller, without
it those of the daemon. What lacks is a finding, not a failure: the exit code is
0 as soon as every check could be made.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.show(cmd.Context(), func(ctx context.Context, src source) (any, page, error) {
				doc, err := src.Doctor(ctx)
				if err != nil {
					return nil, nil, err
				}
				return doc, func(columns int, paint painter) []string { return doctorPage(doc, columns, paint) }, nil
			})
		},
	}
}

func doctorPage(doc *api.Doctor, columns int, paint painter) []string {
	who := "the daemon's rights"
	if doc.Source == api.SourceDirect {
		who = "the caller's rights"
	}
	out := wrap(fmt.Sprintf("%s on %s, with %s", paint.style("tcpmem doctor", bold), prose.Escape(doc.Hostname), who), columns, "  ")
	out = append(out, "")
	lacks := 0
	for i := range doc.Checks {
		check := &doc.Checks[i]
		if check.Status != api.DoctorOK {
			lacks++
		}
		status := paint.style(string(check.Status), doctorStyle(check.Status))
		pad := strings.Repeat(" ", max(len(doctorIndent)-textWidth(status), 1))
		out = append(out, wrap(status+pad+prose.Escape(check.Name)+": "+sentence(check.What), columns, doctorIndent)...)
		if check.Costs != nil {
			out = append(out, wrap(doctorIndent+"costs: "+sentence(*check.Costs), columns, doctorIndent)...)
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

func doctorStyle(s api.DoctorStatus) style {
	switch s {
	case api.DoctorOK:
		return good
	case api.DoctorDegraded:
		return warn
	default:
		return bad
	}
}
