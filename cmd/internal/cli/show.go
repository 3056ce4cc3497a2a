package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
)

// A page draws a document in so many columns, 0 for no bound.
type page func(columns int, paint layout.Painter) []string

// show asks for a document and prints it, once or at each tick of --watch.
func (c *command) show(ctx context.Context, ask func(context.Context, source) (doc any, draw page, err error)) error {
	src, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer src.Close()
	if c.watch == 0 {
		return c.showOnce(ctx, src, ask, c.print)
	}
	c.watching = true
	out := c.print
	if c.TerminalSize != nil && !c.json {
		fmt.Fprint(c.Stdout, clearScreen)
		out = c.redraw
	}
	tick := time.NewTicker(c.watch)
	defer tick.Stop()
	for first := true; ; first = false {
		if !first && c.TerminalSize == nil && !c.json {
			fmt.Fprintln(c.Stdout)
		}
		if err := c.showOnce(ctx, src, ask, out); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *command) showOnce(ctx context.Context, src source,
	ask func(context.Context, source) (any, page, error), out func([]string) error,
) error {
	end := func() {}
	if c.watch == 0 {
		end = c.progress().during(src.SocketsRead)
	}
	doc, draw, err := ask(ctx, src)
	end()
	if err != nil {
		return err
	}
	if c.json {
		return c.encode(doc)
	}
	columns, _ := c.size()
	return out(draw(columns, c.painter()))
}

// encode prints a document as one line of JSON, which jq and line readers
// take alike.
func (c *command) encode(doc any) error {
	enc := json.NewEncoder(c.Stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(doc)
}

func (c *command) print(lines []string) error {
	_, err := fmt.Fprintln(c.Stdout, strings.Join(lines, "\n"))
	return err
}

// control sequences of ECMA-48
const (
	clearScreen = "\x1b[2J"
	cursorHome  = "\x1b[H"
	clearLine   = "\x1b[K" // to its end
	clearBelow  = "\x1b[J"
)

// redraw prints over what the last tick printed, as much as fits.
func (c *command) redraw(lines []string) error {
	if _, rows := c.size(); rows > 1 && len(lines) >= rows {
		lines = lines[:rows-1]
	}
	var b strings.Builder
	b.WriteString(cursorHome)
	for _, line := range lines {
		b.WriteString(line + clearLine + "\n")
	}
	b.WriteString(clearBelow)
	_, err := fmt.Fprint(c.Stdout, b.String())
	return err
}
