package cli

import (
	"bytes"
	"fmt"

	"github.com/BurntSushi/toml"

	"github.com/tcpmemd/tcpmemd/daemon/engine/replay"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// would is what the policy of this host would decide if a drill's leak went on.
type would struct {
	Report replay.Report  `json:"report"`
	Events []replay.Event `json:"events"`
}

// fullAfter is how many minutes the leak would take from now until the pool is
// full; it then stays for as long again.
const fullAfter = 10

// follow plays the leak on, from what was measured of it until the pool is full,
// through the rules of this host.
func (x *exercise) follow(l loaded) error {
	text, err := x.scene()
	if err != nil {
		return err
	}
	scene, err := replay.ParseScene("the drill's scene", text)
	if err != nil {
		return err
	}
	p := x.c.player(l, false)
	x.doc.Would = &would{Events: []replay.Event{}}
	for e := range scene.Entries() {
		x.doc.Would.Events = append(x.doc.Would.Events, p.Play(e)...)
	}
	x.doc.Would.Report = p.Report()
	x.say(fmt.Sprintf("What would follow, if a service of that kind went on until the pool is full, %d minutes from now:", fullAfter))
	for i := range x.doc.Would.Events {
		e := &x.doc.Would.Events[i]
		x.say(fmt.Sprintf("    %5s  %s %s: %s", prose.Duration(e.At.Sub(scene.Start())), prose.Escape(e.Rule), prose.Escape(nameOfEvent(e)), prose.Escape(e.Words())))
	}
	if len(x.doc.Would.Events) == 0 {
		x.say("    nothing: no rule is about it")
	}
	return nil
}

// likeTheLeak is a service of the leak's making that is no drill, so that no
// opt-out hides what the rules would do.
const likeTheLeak = "system/like-the-drill.service"

// scene writes the course: the owner as it was found, grown until the pool is
// full, and the rest of the host as it is.
func (x *exercise) scene() ([]byte, error) {
	o, m := x.doc.Owner, &x.status.Memory
	share := func(part, whole int64) float64 { return float64(part) / float64(max(whole, 1)) }
	owner := func(bytes int64) map[string]any {
		grown := share(bytes, o.Bytes)
		all := map[string]any{
			"bytes": bytes, "sockets": float64(o.Sockets) * grown, "unread": int64(float64(o.UnreadBytes) * grown), "send": int64(float64(o.SendBytes) * grown),
			"classes": map[string]any{"hidden": share(o.Classes.Hidden.Bytes, o.Bytes)}, "verdict": string(*o.Verdict), "unit_verified": true,
		}
		evidence := make(map[string]float64)
		for name, t := range o.Evidence {
			evidence[name] = share(t.Bytes, o.Bytes)
		}
		delete(evidence, reading.FD.String()) // the rest
		all["evidence"] = evidence
		return all
	}
	full := m.MaxBytes - m.UsedBytes + o.Bytes // what the others leave
	coverage := 1.0
	if x.status.Ledger != nil {
		coverage = min(1, max(0, x.status.Ledger.Coverage))
	}
	point := func(minutes int, fill float64, bytes int64) map[string]any {
		return map[string]any{
			"time": fmt.Sprintf("%dm", minutes), "fill": min(1, max(0, fill)), "coverage": coverage,
			"owner": map[string]any{likeTheLeak: owner(bytes)},
		}
	}
	var text bytes.Buffer
	err := toml.NewEncoder(&text).Encode(map[string]any{
		"tcp_mem": []int64{int64(m.MinPages), int64(m.PressurePages), int64(m.MaxPages)}, "page_size": m.PageSize,
		"at": []map[string]any{point(0, m.Fill, o.Bytes), point(fullAfter, 1, full), point(2*fullAfter, 1, full)},
	})
	return text.Bytes(), err
}
