package daemon

import (
	"strings"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event"
)

// outlets tells, once for each change, that metrics do not get out. It is no
// blindness: the daemon sees and acts all the same, and no rule depends on it.
type outlets struct {
	told string
}

func (o *outlets) look(j *judge) {
	if j.cfg.Exporter == nil {
		return
	}
	var list []string
	for _, t := range j.cfg.Exporter.Troubles() {
		list = append(list, t.String())
	}
	switch now := strings.Join(list, "; "); {
	case now == o.told:
	case now == "":
		j.event(event.MetricsUnavailable, "info", "over: "+o.told, nil)
		o.told = now
	default:
		j.event(event.MetricsUnavailable, "warning", "metrics do not get out: "+now, nil)
		o.told = now
	}
}

// metricsCheck is what doctor says of the way out of metrics.
func metricsCheck(e exporter) api.DoctorCheck {
	const name = "metrics"
	if e == nil {
		return api.NewDoctorCheck(name, api.DoctorOK, "off: neither metrics.listen nor metrics.textfile is set, and tcpmemd-metrics.socket is not active", "")
	}
	what := strings.Join(e.Doing(), ", ")
	list := e.Troubles()
	if len(list) == 0 {
		return api.NewDoctorCheck(name, api.DoctorOK, what, "")
	}
	var mend []string
	for _, t := range list {
		what += "; " + t.What + ": " + t.Why
		if t.Mend != "" {
			mend = append(mend, t.What+": "+t.Mend)
		}
	}
	costs := "Prometheus gets nothing there"
	if mend != nil {
		costs += "; what would help: " + strings.Join(mend, "; ")
	}
	return api.NewDoctorCheck(name, api.DoctorDegraded, strings.TrimPrefix(what, "; "), costs)
}
