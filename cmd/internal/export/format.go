// Package export writes what a daemon knows into one file, and answers from
// such a file as the daemon would have at that moment.
//
// The file is a tar archive, packed by gzip, of the documents of daemon/api as
// the socket gives them:
//
//	manifest.json      first: the version of the format, of what, and when
//	status.json owners.json sockets.json orphans.json doctor.json
//	groups/BY.json     the ledger summed by unit, process, ...
//	rules.json policy.json plugins.json
//	incidents.json     a line about each
//	incidents.jsonl    the incidents themselves, one on each line
//	records.jsonl      the action log, the newest first
//	history/NAME       the daemon's files of recorded readings (store/history)
//	end.json           last: what was left out, and what could not be read
//
// Names that are not known are passed over, so that more can be added; a change
// of what is there has another version.
package export

import (
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// version is that of the format.
const version = 1

// kind tells an export from other archives.
const kind = "tcpmemd-export"

// Names in the archive.
const (
	manifestName  = "manifest.json"
	statusName    = "status.json"
	ownersName    = "owners.json"
	socketsName   = "sockets.json"
	orphansName   = "orphans.json"
	doctorName    = "doctor.json"
	groupsDir     = "groups/"
	rulesName     = "rules.json"
	policyName    = "policy.json"
	pluginsName   = "plugins.json"
	summariesName = "incidents.json"
	incidentsName = "incidents.jsonl"
	recordsName   = "records.jsonl"
	historyDir    = "history/"
	endName       = "end.json"
)

// What is written at most, and read at most: a file may come from anybody.
const (
	maxSockets = 20_000 // the biggest
	maxOwners  = 20_000
	maxFile    = 64 << 20 // bytes of one file in it
	maxLines   = 32 << 20 // bytes of the incidents, and of the records
	maxFiles   = 8192
	maxAll     = 512 << 20 // unpacked
)

// Manifest opens an export.
type Manifest struct {
	Version       int        `json:"version"`
	Kind          string     `json:"kind"`
	MadeAt        time.Time  `json:"made_at"`
	MadeBy        string     `json:"made_by"` // version of tcpmemctl
	Hostname      string     `json:"hostname"`
	DaemonVersion string     `json:"daemon_version"`
	Since         *time.Time `json:"since"` // of records and readings; null: all that there are
}

// End closes an export. It says what is not in it.
type End struct {
	Version int `json:"version"`
	// Sockets are those of least memory.
	Sockets   reading.Tally `json:"sockets_left_out"`
	Incidents int           `json:"incidents_left_out"`
	// Records is the time of the oldest record that had room, null where all had.
	Records *time.Time `json:"records_left_out_before"`
	// Missing says why what should be there is not, by its name.
	Missing map[string]string `json:"missing"`
}
