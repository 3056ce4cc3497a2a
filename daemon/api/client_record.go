package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Values gives the query as it goes into a URL.
func (q *RecordQuery) Values() url.Values {
	v := make(url.Values)
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	if !q.Since.IsZero() {
		set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	set("incident", q.Incident)
	set("action", q.Action)
	set("rule", q.Rule)
	set("kind", string(q.Kind))
	set("id", q.ID)
	if q.Limit > 0 {
		set("limit", strconv.Itoa(q.Limit))
	}
	return v
}

// ParseRecordQuery reads what Values gave.
func ParseRecordQuery(v url.Values) (RecordQuery, error) {
	q := RecordQuery{
		Incident: v.Get("incident"), Action: v.Get("action"), Rule: v.Get("rule"),
		Kind: record.Kind(v.Get("kind")), ID: v.Get("id"),
	}
	since, err := ParseSince(v)
	if err != nil {
		return q, err
	}
	q.Since = since
	if text := v.Get("limit"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 0 {
			return q, fmt.Errorf("limit %.20q is not a whole number", text)
		}
	}
	return q, nil
}

// ParseSince reads the time of a query, zero where it has none.
func ParseSince(v url.Values) (time.Time, error) {
	text := v.Get("since")
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("since %.40q is not a time such as 2026-11-22T09:00:00Z", text)
	}
	return at, nil
}

// Records gives the records that q selects, the newest first. An error is the
// last thing that comes; the records before it are right.
func (c *Client) Records(ctx context.Context, q RecordQuery) iter.Seq2[record.Record, error] {
	return func(yield func(record.Record, error) bool) {
		err := stream(ctx, c, "/v1/records", q.Values(), func(f *RecordFrame) (more, ended bool, failed string) {
			return f.Record == nil || yield(*f.Record, nil), f.End, f.Error
		})
		if err != nil {
			yield(record.Record{}, err)
		}
	}
}

// History gives the segments with what was recorded since then, and perhaps
// some before. An error is the last thing that comes.
func (c *Client) History(ctx context.Context, since time.Time) iter.Seq2[Segment, error] {
	q := RecordQuery{Since: since}
	return func(yield func(Segment, error) bool) {
		err := stream(ctx, c, "/v1/history", q.Values(), func(f *HistoryFrame) (more, ended bool, failed string) {
			return f.Segment == nil || yield(*f.Segment, nil), f.End, f.Error
		})
		if err != nil {
			yield(Segment{}, err)
		}
	}
}

// stream gives each line of an answer to take, until it wants no more.
func stream[F any](ctx context.Context, c *Client, path string, query url.Values,
	take func(*F) (more, ended bool, failed string),
) error {
	body, err := c.open(ctx, path, query)
	if err != nil {
		return err
	}
	defer body.Close()
	dec := json.NewDecoder(bufio.NewReaderSize(body, 64<<10))
	for {
		frame := new(F)
		if err := dec.Decode(frame); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("read %s: the answer is not whole: %w", path, whole(err))
		}
		switch more, ended, failed := take(frame); {
		case failed != "":
			return &RequestError{Status: http.StatusInternalServerError, Message: failed}
		case ended || !more:
			return nil
		}
	}
}

// Incidents lists what happened, the newest first.
func (c *Client) Incidents(ctx context.Context) (*Incidents, error) {
	return get[Incidents](ctx, c, "/v1/incidents", nil)
}

// Incident asks for one. Where there is none the error is a *RequestError that
// says NotFound.
func (c *Client) Incident(ctx context.Context, id string) (*record.Incident, error) {
	return get[record.Incident](ctx, c, "/v1/incidents/"+url.PathEscape(id), nil)
}

// Rules asks where each rule stands.
func (c *Client) Rules(ctx context.Context) (*Rules, error) {
	return get[Rules](ctx, c, "/v1/rules", nil)
}

// Policy asks for the effective policy.
func (c *Client) Policy(ctx context.Context) (*Policy, error) {
	return get[Policy](ctx, c, "/v1/policy", nil)
}

// Plugins asks for the actions and their programs.
func (c *Client) Plugins(ctx context.Context) (*Plugins, error) {
	return get[Plugins](ctx, c, "/v1/plugins", nil)
}

// PluginsVerify starts each plugin, and says which can be used.
func (c *Client) PluginsVerify(ctx context.Context) (*Plugins, error) {
	return post[Plugins](ctx, c, "/v1/plugins/verify", struct{}{})
}

// Act asks for a step by hand.
func (c *Client) Act(ctx context.Context, r ActRequest) (*Acted, error) {
	return post[Acted](ctx, c, "/v1/act", r)
}

// Pause asks that nothing be touched for d.
func (c *Client) Pause(ctx context.Context, d time.Duration, why string) (*Pause, error) {
	return post[Pause](ctx, c, "/v1/pause", PauseRequest{Seconds: d.Seconds(), Why: why})
}

// Resume ends a pause.
func (c *Client) Resume(ctx context.Context) (*Done, error) {
	return post[Done](ctx, c, "/v1/resume", struct{}{})
}

// Reset ends a rule's states, cooldowns and spent budgets.
func (c *Client) Reset(ctx context.Context, rule string) (*Done, error) {
	return post[Done](ctx, c, "/v1/reset", ResetRequest{Rule: rule})
}

// Reload asks to read the configuration again. With wait, a *ConfigError says
// that files are wrong.
func (c *Client) Reload(ctx context.Context, wait bool) (*Reloaded, error) {
	return post[Reloaded](ctx, c, "/v1/reload", ReloadRequest{Wait: wait})
}

func post[T any](ctx context.Context, c *Client, path string, request any) (*T, error) {
	text, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	body, err := c.send(ctx, http.MethodPost, path, nil, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	return decode[T](body, path)
}
