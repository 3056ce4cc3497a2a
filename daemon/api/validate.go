package api

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Validate reports everything in which the document breaks the contract: the
// version, the sums, the order, the words, and numbers that cannot be.
func (o *Owners) Validate() error {
	var v findings
	v.header(&o.Header)
	v.memory(&o.Memory)
	v.ledger(&o.Ledger, &o.Memory)

	sum := reading.Tally{Bytes: o.Truncated.Bytes}
	for i := range o.Owners {
		owner := &o.Owners[i]
		v.owner(owner)
		sum.Add(owner.Sockets, owner.Bytes)
	}
	v.equal("sum of the owners' bytes and what is truncated", sum.Bytes, "seen_bytes", o.Ledger.SeenBytes)
	if o.Truncated.Owners == 0 {
		v.equal("truncated bytes without a truncated owner", o.Truncated.Bytes, "nothing", 0)
		v.equal("sum of the owners' sockets", sum.Sockets, "the classes' sockets", o.Ledger.Classes.Sum().Sockets)
	}
	v.order(o.Owners)
	v.finite(reflect.ValueOf(o).Elem(), "")
	return errors.Join(v...)
}

// Validate reports in what the document breaks the contract.
func (s *Status) Validate() error {
	var v findings
	v.header(&s.Header)
	v.memory(&s.Memory)
	if s.Level != s.Memory.Level {
		v.add("level %s beside memory.level %s", s.Level, s.Memory.Level)
	}
	if (s.Ledger == nil) != (s.ScanAgeSeconds == nil) {
		v.add("ledger and scan_age_seconds: want both or none")
	}
	v.order(s.TopOwners)
	v.finite(reflect.ValueOf(s).Elem(), "")
	return errors.Join(v...)
}

// Validate reports in what the document breaks the contract.
func (s *Sockets) Validate() error {
	var v findings
	v.header(&s.Header)
	sum := s.Truncated
	for i := range s.Sockets {
		row := &s.Sockets[i]
		sum.Add(1, row.Bytes)
		v.equal(fmt.Sprintf("socket %d: parts", row.Cookie), row.ReceiveBytes+row.SendBytes+row.ReservedBytes, "bytes", row.Bytes)
		if i > 0 && cmp.Or(cmp.Compare(row.Bytes, s.Sockets[i-1].Bytes), cmp.Compare(s.Sockets[i-1].Cookie, row.Cookie)) > 0 {
			v.add("socket %d: out of order", row.Cookie)
		}
		if _, ok := reading.ParseClass(row.Class); !ok {
			v.add("socket %d: unknown class %q", row.Cookie, row.Class)
		}
	}
	v.equal("sum of the sockets and what is truncated", sum.Sockets, "matched sockets", s.Matched.Sockets)
	v.equal("sum of the bytes and what is truncated", sum.Bytes, "matched bytes", s.Matched.Bytes)
	return errors.Join(v...)
}

// Validate reports in what the document breaks the contract.
func (o *Orphans) Validate() error {
	var v findings
	v.header(&o.Header)
	var sum reading.Tally
	for _, owner := range o.Owners {
		sum.Add(owner.Sockets, owner.Bytes)
	}
	v.equal("sum of the owners' bytes and what is truncated", sum.Bytes+o.Truncated.Bytes, "bytes", o.Bytes)
	if o.Seen != nil && o.Truncated.Owners == 0 {
		v.equal("sum of the owners' sockets", sum.Sockets, "seen", *o.Seen)
	}
	return errors.Join(v...)
}

// Validate reports in what the document breaks the contract.
func (g *Groups) Validate() error {
	var v findings
	v.header(&g.Header)
	v.memory(&g.Memory)
	v.ledger(&g.Ledger, &g.Memory)
	for i := range g.Groups {
		if i > 0 && g.Groups[i].Bytes > g.Groups[i-1].Bytes {
			v.add("group %q: out of order", g.Groups[i].Name)
		}
	}
	v.finite(reflect.ValueOf(g).Elem(), "")
	return errors.Join(v...)
}

// findings collects what is wrong with a document.
type findings []error

func (v *findings) add(format string, args ...any) { *v = append(*v, fmt.Errorf(format, args...)) }

func (v *findings) equal(what string, got int64, as string, want int64) {
	if got != want {
		v.add("%s: %d, want %s %d", what, got, as, want)
	}
}

func (v *findings) header(h *Header) {
	if h.Version != Version {
		v.add("version %d, want %d", h.Version, Version)
	}
	if h.Source != SourceDaemon && h.Source != SourceDirect && h.Source != SourceExport {
		v.add("unknown source %q", h.Source)
	}
	if h.AgeSeconds < 0 || h.TookSeconds < 0 {
		v.add("negative age or duration: %v, %v", h.AgeSeconds, h.TookSeconds)
	}
	if _, offset := h.TakenAt.Zone(); offset != 0 {
		v.add("taken_at %v: not in UTC", h.TakenAt)
	}
}

func (v *findings) memory(m *Memory) {
	v.equal("used_bytes", m.UsedBytes, "used_pages in bytes", m.UsedPages.Bytes(m.PageSize))
	v.equal("max_bytes", m.MaxBytes, "max_pages in bytes", m.MaxPages.Bytes(m.PageSize))
	if m.Fill < 0 || m.FillLive < 0 {
		v.add("negative fill: %v, %v", m.Fill, m.FillLive)
	}
	v.judgement("memory", &m.Judgement)
}

func (v *findings) ledger(l *Ledger, m *Memory) {
	v.equal("sum of the classes' bytes", l.Classes.Sum().Bytes, "seen_bytes", l.SeenBytes)
	v.equal("unseen_bytes", l.UnseenBytes, "used - seen", m.UsedBytes-l.SeenBytes)
	of := max(l.SeenBytes, m.UsedBytes-l.ReserveMaxBytes, int64(m.PageSize), 1)
	if want := float64(l.NamedBytes) / float64(of); math.Abs(l.Coverage-want) > 1e-5 {
		v.add("coverage %v, want named / max(seen, used - reserve, 1 page) = %v", l.Coverage, want)
	}
	statuses := []reading.CheckStatus{reading.CheckOK, reading.CheckUnsure, reading.CheckMismatch, reading.CheckSkipped}
	for _, c := range l.Checks {
		if !slices.Contains(statuses, c.Status) {
			v.add("check %s: unknown status %q", c.Name, c.Status)
		}
	}
}

func (v *findings) owner(o *Owner) {
	kinds := []reading.Kind{
		reading.KindService, reading.KindUserService, reading.KindSession, reading.KindScope,
		reading.KindContainer, reading.KindProcess, reading.KindKernel, reading.KindUnresolved,
	}
	who := "owner " + fmt.Sprintf("%q", o.Key)
	if !slices.Contains(kinds, o.Kind) {
		v.add("%s: unknown kind %q", who, o.Kind)
	}
	v.equal(who+": parts", o.ReceiveBytes+o.SendBytes+o.ReservedBytes, "bytes", o.Bytes)
	classes := o.Classes.Sum()
	v.equal(who+": classes", classes.Bytes, "bytes", o.Bytes)
	v.equal(who+": classes", classes.Sockets, "sockets", o.Sockets)
	var evidence reading.Tally
	for t := range maps.Values(o.Evidence) {
		evidence.Add(t.Sockets, t.Bytes)
	}
	v.equal(who+": evidence", evidence.Bytes, "bytes", o.Bytes)
	v.equal(who+": evidence", evidence.Sockets, "sockets", o.Sockets)
	for word := range o.States {
		if _, ok := reading.ParseState(word); !ok && word != reading.State(0).String() {
			v.add("%s: unknown state %q", who, word)
		}
	}
	if len(o.Holders) > reading.MaxHolders || len(o.Holders) > o.HolderCount {
		v.add("%s: %d holders listed of %d, at most %d", who, len(o.Holders), o.HolderCount, reading.MaxHolders)
	}
	v.judgement(who, &o.Judgement)
}

func (v *findings) judgement(of string, j *Judgement) {
	switch {
	case j.Verdict == nil:
		if len(j.Reasons) > 0 || j.Culprit != nil {
			v.add("%s: reasons without a verdict", of)
		}
	case !slices.Contains([]reading.VerdictKind{reading.Leak, reading.Load, reading.SlowPeer}, *j.Verdict):
		v.add("%s: unknown verdict %q", of, *j.Verdict)
	}
}

func (v *findings) order(owners []Owner) {
	keys := make(map[string]bool, len(owners))
	for i := range owners {
		if keys[owners[i].Key] {
			v.add("owner %q: listed twice", owners[i].Key)
		}
		keys[owners[i].Key] = true
		if i == 0 {
			continue
		}
		before := &owners[i-1]
		if cmp.Or(cmp.Compare(owners[i].Bytes, before.Bytes), cmp.Compare(before.Key, owners[i].Key)) > 0 {
			v.add("owner %q: out of order", owners[i].Key)
		}
	}
}

// finite walks the document for numbers that JSON cannot say, and for lists
// and maps that would be null.
func (v *findings) finite(value reflect.Value, path string) {
	switch value.Kind() {
	case reflect.Float64:
		if f := value.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			v.add("%s: not a finite number", path)
		}
	case reflect.Pointer:
		if !value.IsNil() {
			v.finite(value.Elem(), path)
		}
	case reflect.Slice, reflect.Map:
		if value.IsNil() {
			v.add("%s: null list", path)
		}
		if value.Kind() == reflect.Slice {
			for i := range value.Len() {
				v.finite(value.Index(i), path)
			}
		}
	case reflect.Struct:
		for field, at := range value.Fields() {
			if field.IsExported() {
				v.finite(at, path+"."+field.Name)
			}
		}
	}
}
