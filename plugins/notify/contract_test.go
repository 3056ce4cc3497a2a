package notify

import (
	"testing"

	"github.com/tcpmemd/tcpmemd/remediate/remediatetest"
)

// TestContract holds the action against the contract, as tcpmemd meets it.
func TestContract(t *testing.T) {
	remediatetest.Check(t, New("1"), remediatetest.Want{
		Valid:   []string{`{}`, `{"command":["/bin/sh"],"webhook":"https://x/"}`},
		Invalid: []string{`{"webhook":"x"}`},
	})
}
