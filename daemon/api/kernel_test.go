package api

import (
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// What is not known stays null, also where the kernel log cannot be read; what
// is zero stays zero.
func TestKernel(t *testing.T) {
	aborts, none := int64(3), int64(0)
	s := reading.Sample{
		Kernel: reading.Counters{AbortOnMemory: &aborts, MemoryPressures: &none},
		Log:    reading.LogCounts{OutOfMemory: 2},
		Files:  &reading.Usage{Count: 10, Limit: 100},
	}
	doc := StatusFrom(Meta{}, State{Sample: s})
	k := doc.Kernel
	if k.AbortsOnMemory == nil || *k.AbortsOnMemory != 3 || k.MemoryPressures == nil || *k.MemoryPressures != 0 {
		t.Errorf("kernel counters are %+v", k)
	}
	if k.LogOutOfMemory != nil || k.PruneCalled != nil || doc.Conntrack != nil {
		t.Errorf("what is not known is %+v, %+v, want null", k, doc.Conntrack)
	}
	if f := doc.FileHandles; f == nil || f.Count != 10 || f.Limit == nil || *f.Limit != 100 {
		t.Errorf("file handles are %+v", f)
	}
	s.Log.Readable = true
	if k := StatusFrom(Meta{}, State{Sample: s}).Kernel; k.LogOutOfMemory == nil || *k.LogOutOfMemory != 2 {
		t.Errorf("the kernel log says %+v", k)
	}
}
