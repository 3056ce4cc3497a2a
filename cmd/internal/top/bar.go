package top

import (
	"strings"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/cmd/internal/words"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// bar draws the pool, from nothing to max, with min and pressure marked, and
// under it what the marks are. It is plain ASCII: the same on every terminal.
func bar(m *api.Memory, width int, paint layout.Painter) []string {
	inner := width - 2
	if inner < 10 || m.MaxPages <= 0 {
		return []string{layout.ShortenEnd(limits(m), width)}
	}
	at := func(p reading.Pages) int { return int(min(max(p, 0), m.MaxPages) * reading.Pages(inner) / m.MaxPages) }
	used := at(m.UsedPages)
	if used == 0 && m.UsedPages > 0 {
		used = 1 // something is not nothing
	}
	cells := []byte(strings.Repeat("#", used) + strings.Repeat(".", inner-used))
	for _, p := range []reading.Pages{m.MinPages, m.PressurePages} {
		cells[min(at(p), inner-1)] = '|'
	}
	end := "]"
	if m.UsedPages > m.MaxPages {
		end = ">"
	}
	line := "[" + paint.Style(string(cells[:used]), words.LevelStyle(m.Level)) + string(cells[used:]) + end
	return []string{line, ruler(m, width, min(at(m.MinPages), inner-1)+1, min(at(m.PressurePages), inner-1)+1)}
}

// ruler names the marks of a bar under it, or in a row where they are too near
// to one another.
func ruler(m *api.Memory, width, atMin, atPressure int) string {
	const end = "max^" // how much that is stands in the line below
	pressure := "pressure " + prose.Bytes(m.PressurePages.Bytes(m.PageSize))
	least := "min " + prose.Bytes(m.MinPages.Bytes(m.PageSize))
	line := []byte(strings.Repeat(" ", width))
	from := width - len(end)
	copy(line[from:], end)
	for _, mark := range []struct {
		at   int
		text string
	}{{atPressure, pressure}, {atMin, least}} {
		// Behind the mark, or before it: never over what is there already.
		text, start := "^"+mark.text, mark.at
		if start+len(text) >= from {
			text = mark.text + "^"
			start = mark.at + 1 - len(text)
		}
		if start < 0 || start+len(text) >= from {
			return layout.ShortenEnd(limits(m), width)
		}
		copy(line[start:], text)
		from = start
	}
	return string(line)
}

// limits are those of the pool in a row.
func limits(m *api.Memory) string {
	return "min " + prose.Bytes(m.MinPages.Bytes(m.PageSize)) + ", pressure " + prose.Bytes(m.PressurePages.Bytes(m.PageSize)) +
		", max " + prose.Bytes(m.MaxBytes)
}
