package remediate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	pb "google.golang.org/protobuf/proto"

	"github.com/tcpmemd/tcpmemd/remediate/proto"
)

// What an answer may hold. Serve shortens what tells a person; tcpmemd refuses
// an answer that is beyond.
const (
	MaxMessageBytes = 8 << 10
	MaxTextBytes    = 1 << 10 // of a Change's or a Problem's part, or a description's
	MaxCodeBytes    = 64
	MaxChanges      = 1000
	MaxProblems     = 100
	MaxJSONBytes    = 256 << 10 // Undo and Retry
)

// answer runs f and makes a valid answer of whatever comes of it.
func answer(ctx context.Context, f func() (*Response, error)) *proto.Response {
	r := outcome(ctx, f)
	for _, raw := range []json.RawMessage{r.Undo, json.RawMessage(r.Retry)} {
		switch {
		case len(raw) > MaxJSONBytes:
			r = spoilt(r, "answer-too-large", fmt.Sprintf("what is needed later is %d bytes long, %d are the limit", len(raw), MaxJSONBytes))
		case len(raw) > 0 && !json.Valid(raw):
			r = spoilt(r, "invalid-answer", "what is needed later is no JSON")
		}
	}
	out := responseToProto(r)
	for pb.Size(out) > MaxAnswerBytes-1024 && len(out.GetChanges()) > 0 {
		out.Changes = out.GetChanges()[:len(out.GetChanges())/2]
	}
	return out
}

// outcome is f's Response, or one that says how f failed.
func outcome(ctx context.Context, f func() (*Response, error)) (r *Response) {
	defer func() {
		if p := recover(); p != nil {
			r = &Response{Result: Failed, Code: "panic", Message: "the action panicked: " + panicText(p)}
		}
	}()
	r, err := f()
	switch {
	case err == nil && r == nil:
		return &Response{Result: Failed, Code: "no-answer", Message: "the action ended without an answer"}
	case err == nil:
		return r
	case r == nil:
		r = &Response{}
	}
	failed := *r
	failed.Result, failed.Code, failed.Message = Failed, "error", err.Error()
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		failed.Result, failed.Code = TimedOut, "deadline"
	}
	return &failed
}

// spoilt is r, of which nothing can be kept for later.
func spoilt(r *Response, code, message string) *Response {
	s := *r
	s.Result, s.Code, s.Undo, s.Retry = Failed, code, nil, nil
	s.Message = strings.TrimPrefix(r.Message+"; ", "; ") + message
	return &s
}

// panicText is the panic's own text; the stack goes to standard error.
func panicText(p any) string {
	fmt.Fprintf(os.Stderr, "panic: %v\n%s", p, debug.Stack())
	return fmt.Sprint(p)
}

// clip makes s valid UTF-8 of at most limit bytes.
func clip(s string, limit int) string {
	const cut = " ..."
	long := len(s) > limit
	s = strings.ToValidUTF8(s[:min(len(s), limit)], "\uFFFD") // which may be longer
	if !long && len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:min(len(s), limit-len(cut))], "") + cut
}
