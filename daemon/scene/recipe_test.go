package scene

import (
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// TestVerify: a scene of the wrong class is refused, one that the kernel cut
// down out of memory is not. For real this was seen with 60 autotuned orphans
// under a tcp_mem of 2000 4000 8000; here nobody else's connections suffer.
func TestVerify(t *testing.T) {
	orphan := Socket{Role: Dialer, Class: reading.Orphan, State: reading.FinWait1}
	reader := Socket{Role: Accepted, Class: reading.Owned, State: reading.Established}
	reset := Socket{Role: Accepted, Class: reading.Hidden, State: reading.Close}
	tests := []struct {
		name    string
		kind    Kind
		sockets []Socket
		ok      bool
	}{
		{"as ordered", Orphan, []Socket{orphan, reader}, true},
		{"killed out of memory", Orphan, []Socket{{Role: Dialer, Gone: true}, reset}, true},
		{"not closed", Orphan, []Socket{{Role: Dialer, Class: reading.Owned}, reader}, false},
		{"not hidden", Hidden, []Socket{reader}, false},
		{"mini", FinWait2, []Socket{{Role: Dialer, Mini: true}, reader}, true},
		{"accepted", Unaccepted, []Socket{reader}, false},
	}
	for _, tt := range tests {
		b := &Built{Sockets: tt.sockets}
		if err := b.verify(tt.kind); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
