package top

import (
	"fmt"
	"strings"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/cmd/internal/words"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/filter"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

// list is a list of sockets: an owner's, or those that a filter matches.
type list struct {
	owner, name string // "" for those of all
	filter      string // in the language of package filter
	part        string // that a row has to hold

	doc    *api.Sockets // nil until the first answer
	rows   []int        // of doc.Sockets
	cursor cursor
}

func newList(owner, name, filter string) *list {
	return &list{owner: owner, name: name, filter: filter}
}

// maxListed bounds the sockets of a list: the biggest.
const maxListed = 1000

// is says whether both lists ask for the same.
func (l *list) is(other *list) bool { return l.query() == other.query() }

func (l *list) query() api.SocketQuery {
	var terms []string
	if l.owner != "" {
		terms = append(terms, "owner = "+filter.Quote(l.owner))
	}
	if l.filter != "" {
		terms = append(terms, "("+l.filter+")")
	}
	return api.SocketQuery{Filter: strings.Join(terms, " and "), Limit: maxListed}
}

// filterText is the filter that a person typed.
func (l *list) filterText() string {
	if l.part != "" {
		return l.part
	}
	return l.filter
}

// sorted is the list with its rows chosen anew. A filter on owners is by name,
// too, and one owner may be called what another's key is.
func (l *list) sorted() *list {
	out := *l
	out.rows = nil
	if l.doc == nil {
		return &out
	}
	part := strings.ToLower(l.part)
	for i := range l.doc.Sockets {
		s := &l.doc.Sockets[i]
		command := ""
		if s.Holder != nil {
			command = s.Holder.Command
		}
		if (l.owner == "" || s.Owner == l.owner) &&
			(part == "" || holds(part, s.OwnerName, command, s.State, s.Class, value(s.Local), value(s.Remote))) {
			out.rows = append(out.rows, i)
		}
	}
	out.cursor = l.cursor.kept(len(out.rows), out.keyAt)
	return &out
}

func (l *list) keyAt(row int) string {
	s := &l.doc.Sockets[l.rows[row]]
	return fmt.Sprint(s.Cookie, s.Netns.Inode, value(s.Local), value(s.Remote))
}

// chosen is the socket under the cursor, nil where there is none.
func (l *list) chosen() *api.Socket {
	if l.cursor.row >= len(l.rows) {
		return nil
	}
	return &l.doc.Sockets[l.rows[l.cursor.row]]
}

// heading says what is listed.
func (l *list) heading(first, last int) string {
	s := "sockets"
	if l.owner != "" {
		s += " of " + prose.Escape(l.name)
	}
	if l.doc != nil {
		s = fmt.Sprintf("%s with %s", prose.Plural(l.doc.Matched.Sockets, "socket"), prose.Bytes(l.doc.Matched.Bytes))
		if l.owner != "" {
			s += " of " + prose.Escape(l.name)
		}
	}
	if l.filter != "" {
		s += ", filter: " + prose.Escape(l.filter)
	}
	if l.part != "" {
		s += ", with: " + prose.Escape(l.part)
	}
	if l.doc == nil {
		return s
	}
	if len(l.rows) > 0 {
		s += fmt.Sprintf(", %d to %d", first, last)
	}
	if l.doc.Truncated.Sockets > 0 {
		s += fmt.Sprintf(" of the %d biggest", len(l.doc.Sockets))
	}
	return s
}

// empty says why there is no row.
func (l *list) empty() string {
	switch {
	case l.doc == nil:
		return "reading ..."
	case l.filterText() != "":
		return "No TCP socket matches."
	}
	return "There is no TCP socket any more."
}

// table draws some of the rows.
func (l *list) table(from, to int) *layout.Table {
	t := &layout.Table{Columns: []layout.Column{
		{Title: "MEMORY", Right: true, Floor: widthOfBytes},
		{Title: "STATE", Floor: len("established")},
		{Title: "CLASS", Rank: 1, Floor: len("unaccepted")},
		{Title: "RECV-Q", Right: true, Rank: 2, Floor: 7},
		{Title: "SEND-Q", Right: true, Rank: 3, Floor: 7},
		{Title: "LOCAL", Least: 18, Middle: true, Floor: 18},
		{Title: "REMOTE", Least: 18, Middle: true, Floor: 18},
	}}
	if l.owner == "" {
		t.Columns = append(t.Columns, layout.Column{Title: "OWNER", Least: 12, Middle: true, Floor: 12})
	}
	t.Columns = append(t.Columns, layout.Column{Title: "EVIDENCE", Rank: 4, Floor: len("last-seen")})
	for _, i := range l.rows[from:to] {
		s := &l.doc.Sockets[i]
		cells := []string{
			prose.Bytes(s.Bytes), s.State, s.Class, fmt.Sprint(s.RecvQ), fmt.Sprint(s.SendQ), words.Optional(s.Local), words.Optional(s.Remote),
		}
		if l.owner == "" {
			cells = append(cells, prose.Escape(s.OwnerName))
		}
		t.Add(append(cells, s.Evidence)...)
	}
	return t
}

// widthOfBytes is that of the widest size but those of owners that hold
// nothing: "1023.9 MiB".
const widthOfBytes = 10

// ofSocket says all of a socket.
func ofSocket(s *api.Socket) []string {
	return []string{
		fmt.Sprintf("%s -> %s, %s, %s by %s, of %s", words.Optional(s.Local), words.Optional(s.Remote), s.State, s.Class, s.Evidence,
			prose.Escape(s.OwnerName)),
		words.Socket(s),
	}
}
