package main

import (
	"testing"

	"github.com/tcpmemd/tcpmemd/remediate/remediatetest"
)

func TestContract(t *testing.T) {
	remediatetest.Check(t, action{}, remediatetest.Want{
		Valid:   []string{`{"file":"/tmp/x"}`},
		Invalid: []string{`{"file":"x"}`},
	})
}
