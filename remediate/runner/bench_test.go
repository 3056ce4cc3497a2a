package runner

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/remediate"
	"github.com/tcpmemd/tcpmemd/remediate/proto"
)

// BenchmarkCold is from spawn to the first answer, and to the end of the
// process with nothing left.
func BenchmarkCold(b *testing.B) {
	r := newRunner(b, io.Discard, fault(b, "tells"))
	s := r.slots["fault"]
	var answered time.Duration
	for b.Loop() {
		began := time.Now()
		p, err := r.start(b.Context(), s, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.client.Describe(b.Context(), &proto.DescribeRequest{}); err != nil {
			b.Fatal(err)
		}
		answered += time.Since(began)
		r.end(s, p)
	}
	b.ReportMetric(float64(answered.Microseconds())/float64(b.N)/1000, "ms/answer")
}

// BenchmarkReady is from call to answer of a process that is there.
func BenchmarkReady(b *testing.B) {
	r := newRunner(b, io.Discard, fault(b, "tells"))
	if err := r.Ready(b.Context(), "fault"); err != nil {
		b.Fatal(err)
	}
	req := &remediate.Request{Owner: &remediate.Owner{Key: "system/x.service"}, Sockets: make([]remediate.Socket, 1000)}
	for b.Loop() {
		if _, err := r.Run(b.Context(), "fault", req); err != nil {
			b.Fatal(err)
		}
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.Status()[0].PID))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kB float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f", &kB); n == 1 {
			b.ReportMetric(kB/1024, "MB-RSS")
		}
		if n, _ := fmt.Sscanf(line, "RssAnon: %f", &kB); n == 1 {
			b.ReportMetric(kB/1024, "MB-anon")
		}
	}
}
