package record

import "github.com/tcpmemd/tcpmemd/daemon/reading"

// Incident is one rule's episode, from the first pending to the all-clear: all
// that a person wants to know of it afterwards. It is bounded: what does not
// fit is counted in LeftOut.
type Incident struct {
	Version  int    `json:"version"`
	ID       string `json:"id"`
	Rule     string `json:"rule"`
	About    string `json:"about"`
	Severity string `json:"severity"`
	Mode     string `json:"mode"`
	Began    Stamp  `json:"began"` // first pending
	Fired    Stamp  `json:"fired"`
	Ended    *Stamp `json:"ended"` // null while it lasts
	End      End    `json:"end,omitempty"`
	// Hostname and PageSize are the host's; "" and 0 where they are not known.
	Hostname string `json:"hostname,omitempty"`
	PageSize int    `json:"page_size,omitempty"` // bytes
	// Keys are who it was about, the most bytes first.
	Keys []KeyState `json:"keys"`
	// Readings are the pool over time, thinned out as they grow.
	Readings []Point `json:"readings"`
	// Worst is the ledger at the highest use.
	Worst *Ledger `json:"worst"`
	// Records are what was decided and done, and what else happened
	// meanwhile on the host (changes of level, other rules' firings).
	Records []Record `json:"records"`
	// Sample are sockets of the target before the first action.
	Sample  []SocketLine `json:"socket_sample"`
	LeftOut LeftOut      `json:"left_out"`
}

// KeyState is one key of an incident.
type KeyState struct {
	Key    string   `json:"key"`
	Phase  Phase    `json:"phase"`
	Began  Stamp    `json:"began"`
	Ended  *Stamp   `json:"ended"`
	End    End      `json:"end,omitempty"`
	Owner  *Suspect `json:"owner"` // at its worst
	Step   int      `json:"step"`  // the last one decided, 0 before
	Choice Choice   `json:"choice,omitempty"`
	Why    string   `json:"why,omitempty"`
}

// Point is one moment of the pool, in pages.
type Point struct {
	Stamp
	Level    string        `json:"level"`
	Used     reading.Pages `json:"used_pages"`
	Min      reading.Pages `json:"min_pages"`
	Pressure reading.Pages `json:"pressure_pages"`
	Max      reading.Pages `json:"max_pages"`
	Orphans  int64         `json:"orphans"`
	// Aborts are the connections that the kernel has aborted for lack of TCP
	// memory since the daemon started, nil where it does not count them.
	Aborts *int64 `json:"aborts_on_memory,omitempty"`
	// Owners are the biggest of the last scan, in bytes; nil between scans.
	Owners []OwnerBytes `json:"owners,omitempty"`
}

// OwnerBytes is one owner's part.
type OwnerBytes struct {
	Key   string `json:"key"`
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// Ledger is the balance of one scan with its biggest owners.
type Ledger struct {
	Stamp
	UsedPages reading.Pages    `json:"used_pages"`
	Seen      int64            `json:"seen_bytes"`
	Named     int64            `json:"named_bytes"`
	Unseen    int64            `json:"unseen_bytes"`
	Coverage  float64          `json:"coverage"`
	Classes   map[string]int64 `json:"classes"`
	Owners    []Suspect        `json:"owners"`
	LeftOut   int              `json:"owners_left_out"`
}

// SocketLine is one socket of a target, as it was before an action.
type SocketLine struct {
	Cookie   reading.Cookie `json:"cookie"`
	Netns    uint32         `json:"netns_inode"`
	State    string         `json:"state"`
	Class    string         `json:"class"`
	Local    *string        `json:"local"` // null where it is not known
	Remote   *string        `json:"remote"`
	Bytes    int64          `json:"bytes"`
	Receive  int64          `json:"receive_bytes"`
	Send     int64          `json:"send_bytes"`
	Evidence string         `json:"evidence"`
	PID      int            `json:"pid,omitempty"`
}

// LeftOut counts what an incident had no room for.
type LeftOut struct {
	Keys    int `json:"keys"`
	Records int `json:"records"`
	Sockets int `json:"sockets"`
}
