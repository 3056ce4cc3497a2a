package runcommand

import (
	"testing"

	"github.com/tcpmemd/tcpmemd/remediate/remediatetest"
)

// TestContract holds the action against the contract, as tcpmemd meets it.
func TestContract(t *testing.T) {
	remediatetest.Check(t, New("1"), remediatetest.Want{
		Valid:   []string{`{"command":["/bin/sh","-c","exit"]}`},
		Invalid: []string{`{}`, `{"command":["sh"]}`},
	})
}
