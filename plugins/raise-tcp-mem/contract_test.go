package raisetcpmem

import (
	"testing"

	"github.com/tcpmemd/tcpmemd/remediate/remediatetest"
)

// TestContract holds the action against the contract, as tcpmemd meets it.
func TestContract(t *testing.T) {
	remediatetest.Check(t, New("1", ""), remediatetest.Want{
		Valid:   []string{`{}`, `{"ceiling":0.2}`},
		Invalid: []string{`{"factor":0}`, `{"ceiling":"x"}`},
	})
}
