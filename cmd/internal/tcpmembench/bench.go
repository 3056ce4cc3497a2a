package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// bench gathers rows.
type bench struct {
	ctx   context.Context
	short bool
	bin   string
	out   io.Writer
	rows  []row
}

// row is one line of the table.
type row struct {
	what, value, target string
	ok                  bool
}

func (b *bench) add(what, target string, ok bool, format string, args ...any) {
	b.rows = append(b.rows, row{what, fmt.Sprintf(format, args...), target, ok})
	fmt.Fprintf(os.Stderr, "%s: %s (target %s)\n", what, b.rows[len(b.rows)-1].value, target)
}

func (b *bench) header(cpus int) {
	var u unix.Utsname
	_ = unix.Uname(&u)
	ss := "ss not installed"
	if v, err := exec.CommandContext(b.ctx, "ss", "-V").Output(); err == nil {
		ss = strings.TrimSpace(string(v))
	}
	fmt.Fprintf(b.out, "Linux %s, %d CPUs, %s, %d processes at the start; medians.\n\n",
		unix.ByteSliceToString(u.Release[:]), cpus, ss, processes())
}

func (b *bench) print() {
	fmt.Fprintln(b.out, "| what | measured | target | reached |\n|---|---|---|---|")
	for _, r := range b.rows {
		reached := "yes"
		if !r.ok {
			reached = "**no**"
		}
		fmt.Fprintf(b.out, "| %s | %s | %s | %s |\n", r.what, r.value, r.target, reached)
	}
}

func (b *bench) run(only string) error {
	wants := func(group string) bool {
		return only == "" || slices.Contains(strings.Split(only, ","), group)
	}
	if wants("rest") {
		if err := b.rest(); err != nil {
			return err
		}
	}
	if wants("act") {
		if err := b.act(); err != nil {
			return err
		}
	}
	if wants("sockets") {
		return b.sockets()
	}
	return nil
}

// processes counts those of this host.
func processes() int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	n := 0
	for _, e := range entries {
		if c := e.Name()[0]; c >= '1' && c <= '9' {
			n++
		}
	}
	return n
}

// interleave runs the functions in turn, n times, and returns the median time
// of each: what else the machine does then hits all of them alike.
func interleave(n int, runs ...func() error) ([]time.Duration, error) {
	times := make([][]time.Duration, len(runs))
	for range n {
		for i, run := range runs {
			start := time.Now()
			if err := run(); err != nil {
				return nil, err
			}
			times[i] = append(times[i], time.Since(start))
		}
	}
	medians := make([]time.Duration, len(runs))
	for i := range times {
		medians[i] = median(times[i])
	}
	return medians, nil
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }
