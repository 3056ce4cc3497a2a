package page

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// svg writes the elements of a picture. Its numbers are short; text and
// attributes that hold any are escaped here.
//
// A picture has no width of its own: across it is measured in percent, so that
// it fits a phone and a wall alike while its text keeps its size. Shapes that
// percent cannot say lie in an inner picture that is stretched.
type svg struct{ strings.Builder }

// num writes a number with one digit after the point at most.
func num(f float64) string {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		f = 0
	}
	return strconv.FormatFloat(math.Round(f*10)/10, 'f', -1, 64)
}

func pct(f float64) string {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		f = 0
	}
	return strconv.FormatFloat(math.Round(f*100)/100, 'f', -1, 64) + "%"
}

func (b *svg) raw(format string, args ...any) { fmt.Fprintf(b, format, args...) }

// text writes a label at x percent and y pixels, beginning, centred or ending
// there.
func (b *svg) text(class string, x, y, dx float64, anchor, label string) {
	b.raw(`<text class="%s" x="%s" y="%s"`, class, pct(x), num(y))
	if dx != 0 {
		b.raw(` dx="%s"`, num(dx))
	}
	if anchor != "start" {
		b.raw(` text-anchor="%s"`, anchor)
	}
	b.raw(`>%s</text>`, escape(label))
}

// rect writes one whose sides are percent across and pixels down.
func (b *svg) rect(class string, x, width, y, height float64, title string) {
	b.raw(`<rect class="%s" x="%s" width="%s" y="%s" height="%s"`, class, pct(x), pct(width), num(y), num(height))
	if title == "" {
		b.raw(`/>`)
		return
	}
	b.raw(`><title>%s</title></rect>`, escape(title))
}

func (b *svg) line(class string, x1, y1, x2, y2 float64) {
	b.raw(`<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, class, pct(x1), num(y1), pct(x2), num(y2))
}

// shape writes an element of the inner picture, which is 1000 wide, by its points.
func (b *svg) shape(element, class string, points [][2]float64) {
	b.raw(`<%s class="%s" points="`, element, class)
	for i, p := range points {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(num(p[0]) + "," + num(p[1]))
	}
	b.raw(`"/>`)
}

func escape(s string) string { return template.HTMLEscapeString(s) }
