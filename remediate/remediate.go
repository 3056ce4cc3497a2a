package remediate

import (
	"context"
	"encoding/json"
	"time"
)

// ProtocolVersion is the version of the contract, as agreed on in the
// handshake. A plugin of another version is refused.
const ProtocolVersion = 1

// Action is what a plugin implements. Its methods may be called from several
// goroutines, but tcpmemd has one Run or Undo under way at a time.
type Action interface {
	// Describe says what the action is. It does no input or output and
	// answers the same each time.
	Describe() Description
	// Validate checks settings as they stand in a policy, at load: without
	// effect, and without looking at a target. No problem means valid.
	Validate(ctx context.Context, settings Settings) []Problem
	// Run acts, or with DryRun says what it would do. An error is a failure of
	// the action itself (Result failed); a target that should not be touched
	// is no error but a Response with Refused. It returns before the
	// Request's Deadline: what is under way then is reported as it is.
	Run(ctx context.Context, r *Request) (*Response, error)
}

// Undoer is an Action that can take back what a Run has changed. Its
// Description says so with CanUndo.
type Undoer interface {
	// Undo gets what Run returned as Response.Undo.
	Undo(ctx context.Context, r *UndoRequest) (*Response, error)
}

// Touches says what an action can change.
type Touches string

// What an action can touch. Telling touches nothing and is never blocked by
// coverage, protection or a pause.
const (
	TouchesNothing Touches = "nothing"
	TouchesHost    Touches = "host"
	TouchesOwner   Touches = "owner"
)

// Description is what an action is and needs.
type Description struct {
	Name    string // as in a policy: letters a-z, digits and dashes
	Version string
	About   string // one line
	Touches Touches
	// Capabilities are the Linux capabilities that Run needs, by their names
	// in capabilities(7), e.g. "CAP_NET_ADMIN". The process gets no others.
	Capabilities []string
	// Evidence names the kinds of evidence that may make an owner a target,
	// e.g. "fd"; empty where the action touches no owner. Its share of the
	// owner's bytes must be at least EvidenceShare.
	Evidence      []string
	EvidenceShare float64
	Settings      []Setting
	// Connections: Run ends connections and leaves their holder alone. Only
	// such an action may follow a verdict of slow-peer, whose holder is the
	// victim.
	Connections bool
	// NeedsSockets: Run wants the owner's sockets in Request.Sockets.
	NeedsSockets bool
	// Lease: what Run changes is lent for a time. tcpmemd first runs it dry,
	// keeps Response.Undo, then runs it, and calls Undo at the end.
	Lease   bool
	CanUndo bool
}

// Setting is one key of a step's settings.
type Setting struct {
	Name     string
	Type     string // string, bool, int, float, duration, bytes, share, list
	Required bool
	Default  string // as in a policy, "" for none
	About    string // one line
}

// Settings are the keys of a policy's step beside those of every step, as a
// JSON object: strings, numbers, booleans and lists of those, as in the file.
type Settings json.RawMessage

// Problem is a setting that cannot be used. Setting is "" where it is not one
// alone.
type Problem struct {
	Setting string
	Message string
}

// Request asks an action to act.
type Request struct {
	ActionID   string // unique; a retry by the daemon of a delivery has a new one
	IncidentID string
	Rule       string
	About      string // the rule's own line
	Key        string // who the rule is about: an owner's key, or "host"
	Step       int    // from 1
	Hostname   string
	BootID     string
	Settings   Settings
	Deadline   time.Time
	DryRun     bool

	Host  Host
	Owner *Owner // nil where the rule is about the host alone
	// RunnersUp are the next biggest owners, for those who tell.
	RunnersUp []Owner
	// Sockets are the owner's, biggest first, where the action asked for them.
	// SocketsLeftOut counts those beyond what a request may hold.
	Sockets        []Socket
	SocketsLeftOut int64
	// Text tells a person what happened: one line, then more. What processes
	// chose is escaped in it already.
	Text string
	// Event is the id in the daemon's catalogue of what is told, and
	// Severity one of info, warning, critical.
	Event    string
	Severity string
	// Plan is what the dry run answered as Undo, where the action is a lease.
	Plan json.RawMessage
}

// Host is the pool of TCP memory at the decision. Pages are of PageSize bytes.
type Host struct {
	PageSize                          int
	UsedPages                         int64
	MinPages, PressurePages, MaxPages int64
	BaseMin, BasePressure, BaseMax    int64 // without a lease of ours
	Level                             string
	Fill                              float64
	Verdict                           string  // leak, load, slow-peer or ""
	EtaSeconds                        float64 // to max; negative where there is none
	Coverage                          float64
	Orphans, MaxOrphans               int64
	OrphansVanish                     bool // the start-up probe: destroyed orphans are gone
	ReserveBytes                      int64
}

// Owner is the target: who holds the memory, and what identifies it now.
type Owner struct {
	Key, Name, Kind string
	Unit            string // "" where it has none
	Manager         string // "system", "user@UID" or ""
	UnitVerified    bool   // PID 1 said so
	InvocationID    string // 32 hex digits, new at each start of the unit
	Cgroup          string
	UID             *uint32
	Command         string // chosen by the process: data, never part of a command
	Container, Pod  string // "" where it has none
	Holders         []Holder
	Verdict         string
	Reasons         []string
	Culprit         string // slow-peer: who does not read
	Bytes           int64
	Classes         map[string]Tally // by class: owned, unaccepted, orphan, hidden, ...
	Share           float64
	Protected       string
	Shared          bool
}

// Holder is a process; with StartTime (field 22 of /proc/PID/stat, clock ticks
// since boot) its number is never reused.
type Holder struct {
	PID       int
	StartTime uint64
	Command   string
}

// Tally counts sockets and their bytes of TCP memory.
type Tally struct {
	Sockets, Bytes int64
}

// Socket is one of the owner's sockets, as the kernel identifies it.
type Socket struct {
	NetnsInode  uint32
	NetnsCookie uint64
	Cookie      uint64 // never reused
	MPTCP       bool
	State       string // words of ss(8)
	Class       string
	Local       string // address:port, empty where it is not known
	Remote      string
	Interface   uint32
	Inode       uint32
	CgroupID    uint64
	Receive     int64 // bytes: rmem_alloc
	Send        int64 // wmem_queued
	Bytes       int64
	HolderPID   int // 0 where no process holds it
	// NetnsPID is a process in its network namespace, 0 where there is none.
	NetnsPID int
}

// Result is how a Run or an Undo went.
type Result string

// Results. A plugin answers one of the first seven; the others are tcpmemd's.
const (
	Done        Result = "done"
	Refused     Result = "refused"
	Failed      Result = "failed"
	TimedOut    Result = "timed-out"
	DryRun      Result = "dry-run"
	Delivered   Result = "delivered"
	Undelivered Result = "undelivered"
	Interrupted Result = "interrupted" // the daemon or the plugin ended in between
)

// Response is what came of a Run or an Undo.
type Response struct {
	Result Result
	// Code says why in one stable word, e.g. "identity-changed"; "" for Done.
	Code string
	// Message says it to a person.
	Message string
	Changes []Change
	// Predicted is how many bytes of TCP memory this frees, by class.
	Predicted map[string]int64
	// Undo is what Undo needs, where the action can undo.
	Undo json.RawMessage
	// Retry is set by one that tells and could not reach everybody: what to
	// call again with, as settings.
	Retry Settings
}

// Change is one thing that was changed, or would be.
type Change struct {
	What   string // e.g. "unit task-queue.service"
	Before string
	After  string
}

// UndoRequest asks to take back what a Run changed.
type UndoRequest struct {
	ActionID string
	Undo     json.RawMessage
	Settings Settings
	Deadline time.Time
	Host     Host
}
