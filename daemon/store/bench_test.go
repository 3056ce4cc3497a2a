package store

import (
	"testing"
)

// An intent's way to the disk and back, one at a time; and what the caller
// pays for handing over.
func BenchmarkAppend(b *testing.B) {
	b.Run("durable", func(b *testing.B) {
		s := open(b, b.TempDir(), Options{})
		for b.Loop() {
			if err := appendWait(b, s, intent("a")); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("hand-over", func(b *testing.B) {
		s := open(b, b.TempDir(), Options{})
		for b.Loop() {
			s.Append(intent("a"), nil)
		}
	})
}
