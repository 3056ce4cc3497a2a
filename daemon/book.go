package daemon

import (
	"cmp"
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Bounds of one incident, so that one of three days is no larger than one of
// three hours.
const (
	maxPoints       = 720 // halved when full
	maxKeys         = 50
	maxRecords      = 400
	maxSample       = 30
	maxPointOwners  = 5
	maxWorstOwners  = 20
	beforeIncident  = 2 * time.Minute
	incidentRewrite = 5 * time.Second
)

// book keeps the open incidents, one for each rule that fires.
type book struct {
	host     string
	pageSize int // of the newest point
	newID    func(kind string) string
	save     func(*record.Incident)
	open     map[string]*page
	recent   []record.Point // of the last minutes: an incident begins before it fires
}

// page is an incident being written.
type page struct {
	record.Incident
	// Of stride points one is kept: next so far, the seen-th of them.
	stride, seen int
	next         record.Point
	firing       map[string]bool
	told         []int // the steps that somebody was told by, for any of its keys
	deeds        []event.Deed
	moreDeeds    int
	heard        heard
	changed      bool
	saved        record.Stamp
}

func newBook(host string, newID func(string) string, save func(*record.Incident)) *book {
	return &book{host: host, newID: newID, save: save, open: make(map[string]*page)}
}

// id gives the open incident of a rule, "" if there is none.
func (b *book) id(rule string) string {
	if p := b.open[rule]; p != nil {
		return p.ID
	}
	return ""
}

// ids lists the open incidents.
func (b *book) ids() []string {
	if len(b.open) == 0 {
		return nil
	}
	ids := make([]string, 0, len(b.open))
	for _, p := range b.open {
		ids = append(ids, p.ID)
	}
	return ids
}

// find gives an open incident by its id.
func (b *book) find(id string) *page {
	for _, p := range b.open {
		if p.ID == id {
			return p
		}
	}
	return nil
}

// change takes a change of phase. It returns the incident, nil while the rule
// only pends, and whether this change opened or closed it: one that is closed
// is to be written by the caller, after its last record.
func (b *book) change(c *policy.Change, now record.Stamp) (p *page, opened, closed bool) {
	p = b.open[c.Rule.Name]
	switch {
	case c.State.Phase == record.Firing && p == nil:
		p = &page{stride: 1, firing: make(map[string]bool), Incident: record.Incident{
			Version: record.Version, ID: b.newID("i"), Rule: c.Rule.Name, About: c.Rule.About,
			Severity: string(c.Rule.Severity), Mode: c.State.Mode, Began: c.State.Since, Fired: now,
			Hostname: b.host, PageSize: b.pageSize,
			Keys: []record.KeyState{}, Records: []record.Record{}, Sample: []record.SocketLine{},
		}}
		for i := range b.recent {
			if b.recent[i].BootSeconds >= c.State.Since.BootSeconds-beforeIncident.Seconds()/2 {
				p.Readings = append(p.Readings, b.recent[i])
			}
		}
		b.open[c.Rule.Name], opened = p, true
	case p == nil:
		return nil, false, false
	}
	p.changed = true
	for _, step := range c.Told {
		if !slices.Contains(p.told, step) {
			p.told = append(p.told, step)
		}
	}
	p.take(c, now)
	switch c.State.Phase {
	case record.Firing:
		p.firing[c.Key] = true
	case record.Ended:
		delete(p.firing, c.Key)
	}
	if c.State.Phase == record.Ended && len(p.firing) == 0 {
		p.Ended, p.End = &now, c.State.End
		delete(b.open, c.Rule.Name)
		closed = true
	}
	return p, opened, closed
}

func (p *page) take(c *policy.Change, now record.Stamp) {
	k := p.key(c.Key)
	if k == nil {
		if c.State.Phase == record.Ended {
			return // it only pended
		}
		if len(p.Keys) >= maxKeys {
			p.LeftOut.Keys++
			if !p.makeRoom() {
				return
			}
		}
		p.Keys = append(p.Keys, record.KeyState{Key: c.Key, Began: c.State.Since})
		k = &p.Keys[len(p.Keys)-1]
	}
	if c.State.Phase == record.Ended && k.Phase != record.Firing {
		return
	}
	if c.State.Phase != record.Pending || k.Phase == "" {
		k.Phase = c.State.Phase
	}
	if c.State.Phase == record.Ended {
		k.Ended, k.End = &now, c.State.End
	} else {
		k.Ended, k.End = nil, ""
	}
	worse(k, c.State.Owner)
	slices.SortStableFunc(p.Keys, func(a, b record.KeyState) int { return cmp.Compare(bytesOf(&b), bytesOf(&a)) })
}

// makeRoom forgets the smallest key that is over.
func (p *page) makeRoom() bool {
	for i, k := range slices.Backward(p.Keys) {
		if k.Phase == record.Ended {
			p.Keys = slices.Delete(p.Keys, i, i+1)
			return true
		}
	}
	return false
}

// key gives the state of a key, nil if there is none.
func (p *page) key(key string) *record.KeyState {
	if i := slices.IndexFunc(p.Keys, func(k record.KeyState) bool { return k.Key == key }); i >= 0 {
		return &p.Keys[i]
	}
	return nil
}

// log adds a record to the incident that it names, and what concerns the whole
// host to all.
func (b *book) log(rec *record.Record) {
	for _, p := range b.open {
		if rec.Incident == p.ID || rec.Kind == record.KindEvent || rec.Kind == record.KindState && rec.State.Phase == record.Firing {
			p.log(rec)
		}
	}
}

func (p *page) log(rec *record.Record) {
	p.changed = true
	if d := rec.Decision; d != nil && rec.Incident == p.ID {
		if k := p.key(rec.Key); k != nil {
			k.Step, k.Choice, k.Why = d.Step, d.Choice, d.Why
			worse(k, d.Owner)
		}
	}
	if rec.Incident == p.ID {
		p.deed(rec)
	}
	if len(p.Records) >= maxRecords {
		p.LeftOut.Records++
		return
	}
	p.Records = append(p.Records, *rec)
}

// point takes the pool as it is; r is the full reading that came just now, nil
// for a sample.
func (b *book) point(s *Snapshot, now record.Stamp, r *reading.Reading) {
	b.pageSize = s.Sample.PageSize
	at := pointOf(s, now, r)
	b.recent = append(b.recent, at)
	if n := len(b.recent); n > 2 && at.BootSeconds-b.recent[0].BootSeconds > beforeIncident.Seconds() {
		b.recent = slices.Delete(b.recent, 0, 1)
	}
	for _, p := range b.open {
		p.point(at)
	}
}

func (p *page) point(at record.Point) {
	if p.seen++; p.seen == 1 {
		p.next = at
	} else {
		p.next = telling(p.next, at)
	}
	if p.seen < p.stride {
		return // nor is it worth the disk
	}
	p.seen, p.changed = 0, true
	p.Readings = append(p.Readings, p.next)
	if len(p.Readings) < maxPoints {
		return
	}
	half := p.Readings[:0]
	for i := 0; i+1 < len(p.Readings); i += 2 {
		half = append(half, telling(p.Readings[i], p.Readings[i+1]))
	}
	p.Readings = half
	p.stride *= 2
}

// telling gives the point that tells more: the one with the owners, else the
// higher one. The ledger at the worst is kept beside.
func telling(a, b record.Point) record.Point {
	if owners := b.Owners != nil; owners != (a.Owners != nil) && owners || owners == (a.Owners != nil) && b.Used > a.Used {
		return b
	}
	return a
}

// ledger takes a full reading: what counts is the one at the worst.
func (b *book) ledger(r *reading.Reading, now record.Stamp) {
	for _, p := range b.open {
		if p.Worst == nil || r.Sample.Used > p.Worst.UsedPages {
			p.Worst = ledgerOf(r, now)
			p.changed = true
		}
		for i := range p.Keys {
			if o := ownerOf(r, p.Keys[i].Key); o != nil && o.Sum.Bytes > bytesOf(&p.Keys[i]) {
				suspect := policy.Suspect(r, o)
				worse(&p.Keys[i], &suspect)
			}
		}
	}
}

// sample takes the target's sockets before an action, the first time.
func (b *book) sample(id string, sockets []reading.Socket, leftOut int64) {
	p := b.find(id)
	if p == nil || len(p.Sample) > 0 {
		return
	}
	p.changed = true
	for i := range sockets {
		if i == maxSample {
			break
		}
		p.Sample = append(p.Sample, lineOf(&sockets[i]))
	}
	p.LeftOut.Sockets = len(sockets) - len(p.Sample) + int(leftOut)
}

// flush saves what changed, each incident not too often; one that ended is
// saved by who ended it.
func (b *book) flush(now record.Stamp, all bool) {
	for _, p := range b.open {
		if p.changed && (all || now.Since(p.saved) >= incidentRewrite) {
			b.write(p, now)
		}
	}
}

func (b *book) write(p *page, now record.Stamp) {
	p.changed, p.saved = false, now
	b.save(&p.Incident)
}

// endAll closes what is open when the daemon stops.
func (b *book) endAll(now record.Stamp) (ended []*page) {
	for rule, p := range b.open {
		stopped(&p.Incident, now)
		b.write(p, now)
		delete(b.open, rule)
		ended = append(ended, p)
	}
	return ended
}

func pointOf(s *Snapshot, now record.Stamp, r *reading.Reading) record.Point {
	p := record.Point{
		Stamp: now, Level: s.Level.Level.String(), Used: s.Sample.Used,
		Min: s.Sample.Mem.Min, Pressure: s.Sample.Mem.Pressure, Max: s.Sample.Mem.Max, Orphans: s.Sample.Orphans,
	}
	if n := s.Sample.Kernel.AbortOnMemory; n != nil {
		p.Aborts = new(*n)
	}
	if r != nil {
		p.Owners = []record.OwnerBytes{}
		for i := range r.Owners {
			if o := &r.Owners[i]; len(p.Owners) < maxPointOwners && o.Sum.Bytes > 0 {
				p.Owners = append(p.Owners, record.OwnerBytes{Key: o.Key, Name: o.Name, Bytes: o.Sum.Bytes})
			}
		}
	}
	return p
}

func ledgerOf(r *reading.Reading, now record.Stamp) *record.Ledger {
	l := &record.Ledger{
		Stamp: now, UsedPages: r.Sample.Used, Seen: r.Ledger.Seen, Named: r.Ledger.Named, Unseen: r.Ledger.Unseen,
		Coverage: r.Ledger.Coverage, Classes: make(map[string]int64), Owners: []record.Suspect{},
	}
	for c, t := range r.Ledger.Classes {
		l.Classes[reading.Class(c).String()] = t.Bytes
	}
	for i := range r.Owners {
		if i == maxWorstOwners {
			l.LeftOut = len(r.Owners) - i
			break
		}
		l.Owners = append(l.Owners, policy.Suspect(r, &r.Owners[i]))
	}
	return l
}

func lineOf(s *reading.Socket) record.SocketLine {
	l := record.SocketLine{
		Cookie: s.Cookie, Netns: s.Netns.Inode, State: s.State.String(), Class: s.Class.String(),
		Bytes:   s.Mem.Bytes(),
		Receive: int64(s.Mem.RmemAlloc), Send: int64(s.Mem.WmemQueued), Evidence: s.Evidence.String(),
	}
	if a := reading.AddressText(s.Local); a != "" {
		l.Local = &a
	}
	if a := reading.AddressText(s.Remote); a != "" {
		l.Remote = &a
	}
	if s.Holder != nil {
		l.PID = s.Holder.PID
	}
	return l
}

func ownerOf(r *reading.Reading, key string) *reading.Owner {
	for i := range r.Owners {
		if r.Owners[i].Key == key {
			return &r.Owners[i]
		}
	}
	return nil
}

// worse keeps an owner at its worst.
func worse(k *record.KeyState, o *record.Suspect) {
	if o != nil && (k.Owner == nil || o.Bytes > k.Owner.Bytes) {
		k.Owner = o
	}
}

func bytesOf(k *record.KeyState) int64 {
	if k.Owner == nil {
		return 0
	}
	return k.Owner.Bytes
}
