package layout

import (
	"slices"
	"strings"
)

// Column is how one column of a table behaves when there is little room.
type Column struct {
	Title string
	Right bool // numbers
	// Least is the width it may be shortened to, 0 for never; Middle says
	// where it is cut.
	Least  int
	Middle bool
	// Rank says which columns are left out first: the highest; 0 for never.
	Rank int
	// Floor is its width at least, so that columns do not move while rows are
	// scrolled; one with a floor stays also where it says nothing.
	Floor int
}

// Cell is escaped text and its colour.
type Cell struct {
	Text  string
	Style Style
}

// Table lays out rows. Its cells hold escaped text.
type Table struct {
	Columns []Column
	Rows    []Row
}

// Row is one line of cells, and lines that follow it indented.
type Row struct {
	Cells []Cell
	Under []string
}

const gutter = "  "

// Add appends a row of plain cells.
func (t *Table) Add(texts ...string) *Row {
	cells := make([]Cell, len(texts))
	for i, s := range texts {
		cells[i].Text = s
	}
	t.Rows = append(t.Rows, Row{Cells: cells})
	return &t.Rows[len(t.Rows)-1]
}

// Lines draws the table in at most width columns where it can; with width 0
// there is no bound: nothing is shortened or left out.
func (t *Table) Lines(width int, paint Painter) []string {
	shown, widths := t.layout(width)
	out := make([]string, 0, len(t.Rows)+1)
	head := Row{Cells: make([]Cell, len(t.Columns))}
	for i, c := range t.Columns {
		head.Cells[i] = Cell{c.Title, Bold}
	}
	out = append(out, t.line(&head, shown, widths, paint))
	for i := range t.Rows {
		out = append(out, t.line(&t.Rows[i], shown, widths, paint))
		for _, under := range t.Rows[i].Under {
			for _, piece := range Wrap(under, max(width-4, 0), "  ") {
				out = append(out, "    "+piece)
			}
		}
	}
	return out
}

// layout chooses the columns to show and their widths. Where room is bounded,
// columns that say nothing in any row go first, to leave theirs to the names.
func (t *Table) layout(width int) (shown, widths []int) {
	widths = make([]int, len(t.Columns))
	empty := make([]bool, len(t.Columns))
	for i, c := range t.Columns {
		widths[i], empty[i] = max(Width(c.Title), c.Floor), c.Floor == 0
		for _, r := range t.Rows {
			widths[i] = max(widths[i], Width(r.Cells[i].Text))
			empty[i] = empty[i] && slices.Contains([]string{"", "-", "0 B"}, r.Cells[i].Text)
		}
		if width <= 0 || !empty[i] || c.Rank == 0 {
			shown = append(shown, i)
		}
	}
	if width <= 0 {
		return shown, widths
	}
	for t.needs(shown, widths) > width {
		least := slices.MaxFunc(shown, func(a, b int) int { return t.Columns[a].Rank - t.Columns[b].Rank })
		if t.Columns[least].Rank == 0 {
			break
		}
		shown = slices.DeleteFunc(shown, func(i int) bool { return i == least })
	}
	t.shrink(shown, widths, width)
	return shown, widths
}

// needs is the width of the columns with each as narrow as it may become.
func (t *Table) needs(shown, widths []int) int {
	sum := len(gutter) * (len(shown) - 1)
	for _, i := range shown {
		if least := t.Columns[i].Least; least > 0 {
			sum += min(widths[i], max(least, Width(t.Columns[i].Title)))
		} else {
			sum += widths[i]
		}
	}
	return sum
}

// shrink takes columns away from the widest of those that may be shortened
// until the table fits.
func (t *Table) shrink(shown, widths []int, width int) {
	sum := len(gutter) * (len(shown) - 1)
	for _, i := range shown {
		sum += widths[i]
	}
	for ; sum > width; sum-- {
		widest := -1
		for _, i := range shown {
			c := &t.Columns[i]
			if c.Least > 0 && widths[i] > max(c.Least, Width(c.Title)) && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

func (t *Table) line(r *Row, shown, widths []int, paint Painter) string {
	var b strings.Builder
	for n, i := range shown {
		c, text := &t.Columns[i], r.Cells[i].Text
		if c.Least > 0 && c.Middle {
			text = ShortenMiddle(text, widths[i])
		} else if c.Least > 0 {
			text = ShortenEnd(text, widths[i])
		}
		pad := strings.Repeat(" ", max(widths[i]-Width(text), 0))
		if n > 0 {
			b.WriteString(gutter)
		}
		switch styled := paint.Style(text, r.Cells[i].Style); {
		case c.Right:
			b.WriteString(pad + styled)
		case n == len(shown)-1:
			b.WriteString(styled) // no blanks at the end of a line
		default:
			b.WriteString(styled + pad)
		}
	}
	return strings.TrimRight(b.String(), " ")
}
