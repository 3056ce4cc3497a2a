package api

// Doctor is the document of "tcpmemctl doctor --json": what this host and
// these rights allow, and what each lack costs.
type Doctor struct {
	Version       int           `json:"version"`
	DaemonVersion string        `json:"daemon_version"`
	Hostname      string        `json:"hostname"`
	Source        string        `json:"source"`
	Checks        []DoctorCheck `json:"checks"`
}

// DoctorCheck is one thing looked at. Costs is what its lack costs, null
// where nothing lacks.
type DoctorCheck struct {
	Name   string       `json:"name"` // e.g. "CAP_NET_ADMIN", "cgroup"
	Status DoctorStatus `json:"status"`
	What   string       `json:"what"` // what was found
	Costs  *string      `json:"costs"`
}

// DoctorStatus is the outcome of a check.
type DoctorStatus string

// Outcomes of a check.
const (
	DoctorOK       DoctorStatus = "ok"
	DoctorDegraded DoctorStatus = "degraded"
	DoctorMissing  DoctorStatus = "missing"
)

// DoctorFrom describes checks; those that are not ok must say what they cost.
func DoctorFrom(m Meta, checks []DoctorCheck) *Doctor {
	return &Doctor{
		Version:       Version,
		DaemonVersion: m.DaemonVersion,
		Hostname:      m.Hostname,
		Source:        m.Source,
		Checks:        list(checks),
	}
}

// NewDoctorCheck builds a check; costs is "" where nothing lacks.
func NewDoctorCheck(name string, status DoctorStatus, what, costs string) DoctorCheck {
	return DoctorCheck{Name: name, Status: status, What: what, Costs: known(costs)}
}
