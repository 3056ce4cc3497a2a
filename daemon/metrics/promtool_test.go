package metrics

import (
	"bytes"
	"os/exec"
	"testing"

	"github.com/prometheus/common/expfmt"

	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// TestPromtool: Prometheus' own checker has nothing to say of names, types and
// units, where every family is there.
func TestPromtool(t *testing.T) {
	promtool := require.Tool(t, "promtool")
	families := Families(whole())
	if len(families) != len(catalogue) {
		t.Errorf("%d families, want all %d", len(families), len(catalogue))
	}
	var text bytes.Buffer
	if err := Write(&text, families, expfmt.NewFormat(expfmt.TypeTextPlain)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = bytes.NewReader(text.Bytes())
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	if testing.Verbose() {
		t.Logf("%s", text.Bytes())
	}
}
