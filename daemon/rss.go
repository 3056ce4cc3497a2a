package daemon

import (
	"fmt"
	"os"
)

// ownRSS is this process's resident memory in bytes (/proc/self/statm).
func ownRSS() (int64, error) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, fmt.Errorf("read own memory: %w", err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		return 0, fmt.Errorf("parse own memory: %w", err)
	}
	return resident * int64(os.Getpagesize()), nil
}
