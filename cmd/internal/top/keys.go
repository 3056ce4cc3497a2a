package top

import "strings"

// keyHelp is every key, for the page of keys.
var keyHelp = [...][2]string{
	{"up down k j", "move, PgUp PgDn by a screen, Home End to the ends"},
	{"Enter", "the sockets of the owner, biggest first"},
	{"i", "all that is known of what is under the cursor"},
	{"Esc", "back: from sockets, from a page, from a filter"},
	{"m", "sort by memory"},
	{"g", "sort by growth"},
	{"o", "sort by orphans: sockets that nobody holds any more"},
	{"h", "sort by hidden: closed by the kernel, held by a descriptor"},
	{"u", "sort by unread: received, and not read by the program"},
	{"c", "sort by close-wait: closed by the peer, not by the program"},
	{"/", "filter: a part of a name, or a filter as of tcpmemctl sockets"},
	{"space", "pause the view, and go on; the daemon takes no notice"},
	{"p", "what the policy does, in full, and what could not be read"},
	{"?", "this page"},
	{"q Ctrl-C", "end; Ctrl-Z stops, Ctrl-L draws anew"},
}

// pressed takes a key by its name, and the text that it types.
func (m Model) pressed(key, text string) (Model, want) {
	// A terminal sends Alt as Esc before the key, so that is how Esc looks when
	// the next key follows at once.
	if next, ok := strings.CutPrefix(key, "alt+"); ok {
		m, first := m.pressed("esc", "")
		m, second := m.pressed(next, text)
		return m, max(first, second)
	}
	if m.input != nil {
		return m.typed(key, text)
	}
	switch key {
	case "q":
		return m, wantQuit
	case "?":
		return m.turned(pageKeys), wantNothing
	case "i":
		return m.turned(pageDetails), wantNothing
	case "p":
		return m.turned(pagePolicy), wantNothing
	case "esc":
		return m.back()
	case "space":
		return m.paused()
	case "/":
		m.page = pageTable
		m.input = &input{text: m.filterText(), before: m.filterText()}
		return m, wantNothing
	case "enter":
		return m.opened()
	}
	if by, ok := m.movement(key); ok {
		return m.moved(by), wantNothing
	}
	for o := range orders {
		if orders[o].key == key && m.page == pageTable && m.list == nil {
			m.order = order(o)
			m.cursor = cursor{} // whoever is first now
			return m.arranged(), wantNothing
		}
	}
	return m, wantNothing
}

// turned shows a page, or leaves it.
func (m Model) turned(p page) Model {
	if m.page == p {
		p = pageTable
	}
	m.page, m.scroll = p, 0
	return m
}

// back leaves what was entered last.
func (m Model) back() (Model, want) {
	switch {
	case m.page != pageTable:
		m = m.turned(pageTable)
	case m.list != nil && m.list.owner != "" && m.list.filterText() != "":
		return m.listed(newList(m.list.owner, m.list.name, ""))
	case m.list != nil:
		m.list = nil
	default:
		m.filter = ""
		m = m.arranged()
	}
	return m, wantNothing
}

// paused freezes the view, or lets it go on at once.
func (m Model) paused() (Model, want) {
	m.frozen = !m.frozen
	if m.frozen || m.asking > 0 {
		return m, wantNothing
	}
	m.since = m.now
	return m, wantAnswer
}

// opened shows the sockets of the owner under the cursor.
func (m Model) opened() (Model, want) {
	o := m.chosen()
	if m.page != pageTable || m.list != nil || o == nil {
		return m, wantNothing
	}
	return m.listed(newList(o.Key, o.Name, ""))
}

// listed shows a list of sockets.
func (m Model) listed(l *list) (Model, want) {
	m.list, m.since = l, m.now
	return m, wantAnswer
}

// movement is how many rows a key moves by.
func (m *Model) movement(key string) (int, bool) {
	const all = 1 << 30
	screen := max(m.tableRows()-1, 1)
	if m.page != pageTable {
		screen = max(m.height-3, 1)
	}
	switch key {
	case "up", "k":
		return -1, true
	case "down", "j":
		return 1, true
	case "pgup", "ctrl+b":
		return -screen, true
	case "pgdown", "ctrl+f":
		return screen, true
	case "home":
		return -all, true
	case "end":
		return all, true
	}
	return 0, false
}

func (m Model) moved(by int) Model {
	switch {
	case m.page != pageTable:
		m.scroll = max(min(m.scroll+by, len(m.text())-(m.height-2)), 0)
	case m.list != nil:
		l := *m.list
		l.cursor = l.cursor.moved(by, len(l.rows), l.keyAt)
		m.list = &l
	default:
		m.cursor = m.cursor.moved(by, len(m.rows), m.keyAt)
	}
	return m
}
