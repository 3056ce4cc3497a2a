package cli

import (
	"slices"
	"strings"
)

// column is how one column of a table behaves when there is little room.
type column struct {
	title string
	right bool // numbers
	// least is the width it may be shortened to, 0 for never; middle says
	// where it is cut.
	least  int
	middle bool
	// rank says which columns are left out first: the highest; 0 for never.
	rank int
}

// cell is escaped text and its colour.
type cell struct {
	text  string
	style style
}

// table lays out rows. Its cells hold escaped text.
type table struct {
	columns []column
	rows    []row
}

// row is one line of cells, and lines that follow it indented.
type row struct {
	cells []cell
	under []string
}

const gutter = "  "

// add appends a row of plain cells.
func (t *table) add(texts ...string) *row {
	cells := make([]cell, len(texts))
	for i, s := range texts {
		cells[i].text = s
	}
	t.rows = append(t.rows, row{cells: cells})
	return &t.rows[len(t.rows)-1]
}

// lines draws the table in at most width columns where it can; with width 0
// there is no bound: nothing is shortened or left out.
func (t *table) lines(width int, paint painter) []string {
	shown, widths := t.layout(width)
	out := make([]string, 0, len(t.rows)+1)
	head := row{cells: make([]cell, len(t.columns))}
	for i, c := range t.columns {
		head.cells[i] = cell{c.title, bold}
	}
	out = append(out, t.line(&head, shown, widths, paint))
	for i := range t.rows {
		out = append(out, t.line(&t.rows[i], shown, widths, paint))
		for _, under := range t.rows[i].under {
			for _, piece := range wrap(under, max(width-4, 0), "  ") {
				out = append(out, "    "+piece)
			}
		}
	}
	return out
}

// layout chooses the columns to show and their widths. Where room is bounded,
// columns that say nothing in any row go first, to leave theirs to the names.
func (t *table) layout(width int) (shown, widths []int) {
	widths = make([]int, len(t.columns))
	empty := make([]bool, len(t.columns))
	for i, c := range t.columns {
		widths[i], empty[i] = textWidth(c.title), true
		for _, r := range t.rows {
			widths[i] = max(widths[i], textWidth(r.cells[i].text))
			empty[i] = empty[i] && slices.Contains([]string{"", "-", "0 B"}, r.cells[i].text)
		}
		if width <= 0 || !empty[i] || c.rank == 0 {
			shown = append(shown, i)
		}
	}
	if width <= 0 {
		return shown, widths
	}
	for t.needs(shown, widths) > width {
		least := slices.MaxFunc(shown, func(a, b int) int { return t.columns[a].rank - t.columns[b].rank })
		if t.columns[least].rank == 0 {
			break
		}
		shown = slices.DeleteFunc(shown, func(i int) bool { return i == least })
	}
	t.shrink(shown, widths, width)
	return shown, widths
}

// needs is the width of the columns with each as narrow as it may become.
func (t *table) needs(shown, widths []int) int {
	sum := len(gutter) * (len(shown) - 1)
	for _, i := range shown {
		if least := t.columns[i].least; least > 0 {
			sum += min(widths[i], max(least, textWidth(t.columns[i].title)))
		} else {
			sum += widths[i]
		}
	}
	return sum
}

// shrink takes columns away from the widest of those that may be shortened
// until the table fits.
func (t *table) shrink(shown, widths []int, width int) {
	sum := len(gutter) * (len(shown) - 1)
	for _, i := range shown {
		sum += widths[i]
	}
	for ; sum > width; sum-- {
		widest := -1
		for _, i := range shown {
			c := &t.columns[i]
			if c.least > 0 && widths[i] > max(c.least, textWidth(c.title)) && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

func (t *table) line(r *row, shown, widths []int, paint painter) string {
	var b strings.Builder
	for n, i := range shown {
		c, text := &t.columns[i], r.cells[i].text
		if c.least > 0 && c.middle {
			text = shortenMiddle(text, widths[i])
		} else if c.least > 0 {
			text = shortenEnd(text, widths[i])
		}
		pad := strings.Repeat(" ", max(widths[i]-textWidth(text), 0))
		if n > 0 {
			b.WriteString(gutter)
		}
		switch styled := paint.style(text, r.cells[i].style); {
		case c.right:
			b.WriteString(pad + styled)
		case n == len(shown)-1:
			b.WriteString(styled) // no blanks at the end of a line
		default:
			b.WriteString(styled + pad)
		}
	}
	return strings.TrimRight(b.String(), " ")
}
