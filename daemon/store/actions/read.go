package actions

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Query selects records; a zero field selects all.
type Query struct {
	Since    time.Time
	Incident string
	Action   string
	Rule     string
	Kind     record.Kind
	ID       string
	Limit    int // of records
	// NewestFirst turns the order of writing around. It holds one file of the
	// log in memory.
	NewestFirst bool
}

// SkippedError comes after the last record where some of the log could not be
// read: Lines are no records, Files are broken from some point on.
type SkippedError struct{ Lines, Files int }

func (e *SkippedError) Error() string {
	return fmt.Sprintf("read action log: %d lines are no records, %d files are broken", e.Lines, e.Files)
}

// Records gives the records that q selects. The queued lines are younger than
// all of the log; of those that the log has already, the queue's are taken.
// An error is the last thing that comes.
func (l *Log) Records(ctx context.Context, q Query, queued [][]byte) iter.Seq2[record.Record, error] {
	return func(yield func(record.Record, error) bool) {
		files, err := l.open()
		defer func() {
			for _, f := range files {
				f.Close()
			}
		}()
		if err != nil {
			yield(record.Record{}, err)
			return
		}
		r := reader{query: q, needles: q.needles(), before: maxSeq + 1, yield: yield}
		if len(queued) > 0 {
			r.before = seqOf(queued[0])
		}
		if !r.readAll(ctx, files, queued) && r.skipped != (SkippedError{}) {
			yield(record.Record{}, &r.skipped)
		}
	}
}

// open opens all files of the log, the oldest first.
func (l *Log) open() (files []*os.File, err error) {
	l.names.Lock()
	defer l.names.Unlock()
	names := []string{l.path()}
	for i := 1; i <= keep; i++ {
		names = append(names, l.rotated(i))
	}
	for i, name := range slices.Backward(names) {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) && i > 0 {
			f, err = os.Open(name + ".gz")
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return files, fmt.Errorf("open action log: %w", err)
		}
		files = append(files, f)
	}
	return files, nil
}

// reader carries one query through the files.
type reader struct {
	query   Query
	needles [][]byte
	before  uint64 // records from here on are in the queue
	yield   func(record.Record, error) bool
	given   int
	skipped SkippedError
}

// readAll reports whether the caller wants no more.
func (r *reader) readAll(ctx context.Context, files []*os.File, queued [][]byte) (stopped bool) {
	fromQueue := func(lines iter.Seq2[int, []byte]) bool {
		for _, line := range lines {
			if !r.line(line, maxSeq+1) {
				return false
			}
		}
		return true
	}
	if r.query.NewestFirst {
		slices.Reverse(files)
		if !fromQueue(slices.Backward(queued)) {
			return true
		}
	}
	for _, f := range files {
		for line, err := range Lines(f, r.query.NewestFirst) {
			if cause := ctx.Err(); cause != nil {
				r.yield(record.Record{}, fmt.Errorf("read action log: %w", cause))
				return true
			}
			if err != nil {
				r.skipped.Files++
				break
			}
			if !r.line(line, r.before) {
				return true
			}
		}
	}
	return !r.query.NewestFirst && !fromQueue(slices.All(queued))
}

// line hands on one line's record if it is wanted; it reports whether more are.
func (r *reader) line(line []byte, before uint64) bool {
	for _, needle := range r.needles {
		if !bytes.Contains(line, needle) {
			return true
		}
	}
	rec, err := Parse(line)
	if err != nil {
		r.skipped.Lines++
		return true
	}
	if rec.Seq >= before || !r.query.selects(&rec) {
		return true
	}
	r.given++
	return r.yield(rec, nil) && (r.query.Limit == 0 || r.given < r.query.Limit)
}

func (q *Query) selects(rec *record.Record) bool {
	return (q.Since.IsZero() || !rec.At.Before(q.Since)) &&
		(q.Incident == "" || rec.Incident == q.Incident) && (q.Action == "" || rec.Action == q.Action) &&
		(q.Rule == "" || rec.Rule == q.Rule) && (q.Kind == "" || rec.Kind == q.Kind) && (q.ID == "" || rec.ID == q.ID)
}

// needles are what the line of a selected record contains: most lines need no
// parsing.
func (q *Query) needles() (needles [][]byte) {
	for name, value := range map[string]string{
		"incident": q.Incident, "action": q.Action, "rule": q.Rule, "kind": string(q.Kind), "id": q.ID,
	} {
		if value != "" {
			needles = append(needles, needle(name, value))
		}
	}
	return needles
}

func needle(name, value string) []byte {
	quoted, err := json.Marshal(value)
	if err != nil {
		return nil // a string always has a form in JSON
	}
	return slices.Concat([]byte(`"`+name+`":`), quoted)
}

// Parse reads one line.
func Parse(line []byte) (record.Record, error) {
	var rec record.Record
	if err := json.Unmarshal(line, &rec); err != nil {
		return record.Record{}, fmt.Errorf("parse record: %w", err)
	}
	if rec.Version != record.Version {
		return record.Record{}, fmt.Errorf("parse record: version %d, not %d", rec.Version, record.Version)
	}
	if rec.Seq == 0 || rec.Seq > maxSeq || rec.Kind == "" {
		return record.Record{}, errors.New("parse record: no number or kind")
	}
	return rec, nil
}

// maxSeq is far more than there will ever be, and what a JSON number holds
// exactly: a garbled line cannot use up the numbers.
const maxSeq = 1 << 53

// seqPrefix is how every line begins that was not written by hand.
var seqPrefix = fmt.Appendf(nil, `{"version":%d,"seq":`, record.Version)

// seqOf is the number in a line, 0 where there is none.
func seqOf(line []byte) uint64 {
	if number, ok := bytes.CutPrefix(line, seqPrefix); ok {
		if end := bytes.IndexByte(number, ','); end > 0 {
			if seq, err := strconv.ParseUint(string(number[:end]), 10, 64); err == nil && seq <= maxSeq {
				return seq
			}
		}
	}
	var rec struct {
		Seq uint64 `json:"seq"`
	}
	if json.Unmarshal(line, &rec) != nil || rec.Seq > maxSeq {
		return 0
	}
	return rec.Seq
}

// Lines gives the non-empty lines of one file, plain or compressed, without
// their newline; each is valid until the next. A last line without newline
// may be being written: it is left out, and so is a line beyond MaxLine.
func Lines(f io.Reader, backward bool) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		in := bufio.NewReaderSize(f, 64<<10)
		if magic, err := in.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
			zip, err := gzip.NewReader(in)
			if err != nil {
				yield(nil, err)
				return
			}
			in = bufio.NewReaderSize(zip, 64<<10)
		}
		if backward {
			linesBackward(in, yield)
			return
		}
		var long []byte
		for {
			part, err := in.ReadSlice('\n')
			switch {
			case err == io.EOF:
				return
			case errors.Is(err, bufio.ErrBufferFull):
				if len(long) <= MaxLine {
					long = append(long, part...)
				}
				continue
			case err != nil:
				yield(nil, err)
				return
			}
			line := part
			if long != nil {
				line, long = append(long, part...), nil
			}
			if line = line[:len(line)-1]; len(line) > 0 && len(line) < MaxLine && !yield(line, nil) {
				return
			}
		}
	}
}

func linesBackward(in io.Reader, yield func([]byte, error) bool) {
	all, err := io.ReadAll(io.LimitReader(in, maxFile))
	if err != nil {
		yield(nil, err)
		return
	}
	end := bytes.LastIndexByte(all, '\n')
	for end >= 0 {
		start := bytes.LastIndexByte(all[:end], '\n')
		if line := all[start+1 : end]; len(line) > 0 && len(line) < MaxLine && !yield(line, nil) {
			return
		}
		end = start
	}
}

// maxFile bounds what is read of a file in one piece: more than the log itself
// ever writes into one.
const maxFile = 64 << 20

// Tail is what a start needs to know of the log.
type Tail struct {
	Seq uint64 // of the last record
	// Unfinished are the intents without a result, the oldest first: their
	// actions were interrupted.
	Unfinished []record.Record
	Exists     bool // a line was written at some time
	Skipped    SkippedError
}

// Tail reads the whole log.
func (l *Log) Tail() (Tail, error) {
	var t Tail
	files, err := l.open()
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return t, err
	}
	intent, result := needle("kind", string(record.KindIntent)), needle("kind", string(record.KindResult))
	open := map[string]record.Record{}
	for _, f := range files {
		for line, err := range Lines(f, false) {
			if err != nil {
				t.Skipped.Files++
				break
			}
			t.Exists = true
			if !bytes.Contains(line, intent) && !bytes.Contains(line, result) {
				seq := seqOf(line)
				if seq == 0 {
					t.Skipped.Lines++
				}
				t.Seq = max(t.Seq, seq)
				continue
			}
			rec, err := Parse(line)
			if err != nil {
				t.Skipped.Lines++
				continue
			}
			t.Seq = max(t.Seq, rec.Seq)
			switch rec.Kind {
			case record.KindIntent:
				open[rec.Action] = rec
			case record.KindResult:
				delete(open, rec.Action)
			}
		}
	}
	for _, rec := range open {
		t.Unfinished = append(t.Unfinished, rec)
	}
	slices.SortFunc(t.Unfinished, func(a, b record.Record) int { return cmp.Compare(a.Seq, b.Seq) })
	return t, nil
}
