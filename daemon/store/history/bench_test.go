package history

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// Two weeks by the minute, each with a full reading of a host where a third of
// the owners move between two readings; then all of it read.
func BenchmarkTwoWeeks(b *testing.B) {
	for _, owners := range []int{20, 200} {
		b.Run(fmt.Sprintf("owners=%d", owners), func(b *testing.B) {
			for b.Loop() {
				dir, h := b.TempDir(), newHost(owners)
				r := openRing(b, dir, 32<<20)
				const minutes = 14 * 24 * 60
				var took time.Duration
				for m := range minutes {
					e := h.entry(60*m, 60)
					begun := time.Now()
					mustAppend(b, r, e)
					took += time.Since(begun)
				}
				if err := r.Close(); err != nil {
					b.Fatal(err)
				}
				begun, n := time.Now(), 0
				for _, err := range Read(Dir(dir), time.Time{}, time.Time{}) {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
				read := time.Since(begun)
				files, err := filepath.Glob(filepath.Join(dir, "coarse-*"))
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(r.coarse.bytes)/float64(n-60), "bytes/entry")
				b.ReportMetric(float64(folder(b, dir))/(1<<20), "MB")
				b.ReportMetric(float64(n), "entries")
				b.ReportMetric(float64(len(files)), "segments")
				b.ReportMetric(read.Seconds(), "s/read")
				b.ReportMetric(took.Seconds()*1e6/minutes, "µs/append")
			}
		})
	}
}
