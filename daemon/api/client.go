package api

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"
)

// SystemSocket is where the system's daemon listens.
const SystemSocket = "/run/tcpmemd/tcpmemd.sock"

// MaxFilter bounds the text of a filter, in bytes.
const MaxFilter = 4096

// DefaultSocket is the socket of a daemon that runs as uid: TCPMEMD_SOCKET
// where it is set, the system's for root, one under $XDG_RUNTIME_DIR
// otherwise.
func DefaultSocket(getenv func(string) string, uid int) string {
	if s := getenv("TCPMEMD_SOCKET"); s != "" {
		return s
	}
	if dir := getenv("XDG_RUNTIME_DIR"); dir != "" && uid != 0 {
		return filepath.Join(dir, "tcpmemd", "tcpmemd.sock")
	}
	return SystemSocket
}

// FindSocket is the socket that a client of uid asks: that of DefaultSocket,
// but the system's where a user has no daemon of their own.
func FindSocket(getenv func(string) string, uid int) string {
	socket := DefaultSocket(getenv, uid)
	if getenv("TCPMEMD_SOCKET") == "" {
		if _, err := os.Lstat(socket); err != nil {
			return SystemSocket
		}
	}
	return socket
}

// patience is longer than the daemon gives itself for an answer.
const patience = 45 * time.Second

// Client talks to the daemon: HTTP/1.1 with JSON over its Unix socket, so that
// reading and steering the host needs no TCP.
type Client struct {
	socket string
	http   *http.Client
	rows   atomic.Int64
}

// Dial makes a client for the daemon behind socket. It connects with the first
// request, which returns *NotRunningError or *PermissionError where it cannot.
func Dial(socket string) *Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "unix", socket)
			if err != nil && ctx.Err() == nil {
				return nil, dialError(socket, err)
			}
			return conn, err
		},
		MaxIdleConns:       1,
		DisableCompression: true,
		// A daemon that is stopped or stuck still has connections accepted for
		// it by the kernel; one that works answers within its own deadline.
		ResponseHeaderTimeout: patience,
	}
	return &Client{socket: socket, http: &http.Client{Transport: transport}}
}

// Socket is the path the client connects to.
func (c *Client) Socket() string { return c.socket }

// SocketsRead is how many sockets have come so far, in all answers; it may be
// called while one comes.
func (c *Client) SocketsRead() int64 { return c.rows.Load() }

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks what the daemon knows now; it causes no scan.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return get[Status](ctx, c, "/v1/status", nil)
}

// maxHealth is far more than the document is, whatever answers on the socket.
const maxHealth = 256 << 10

// Health asks for the judgement of a check; it causes no scan.
func (c *Client) Health(ctx context.Context) (*Health, error) {
	const path = "/v1/health"
	body, err := c.open(ctx, path, nil)
	if err != nil {
		return nil, err
	}
	return decode[Health](struct {
		io.Reader
		io.Closer
	}{io.LimitReader(body, maxHealth), body}, path)
}

// Owners asks for the ledger; fresh asks for a scan first.
func (c *Client) Owners(ctx context.Context, fresh bool) (*Owners, error) {
	return get[Owners](ctx, c, "/v1/owners", freshness(fresh))
}

// Groups asks for the ledger summed by something other than owner.
func (c *Client) Groups(ctx context.Context, by By, fresh bool) (*Groups, error) {
	q := freshness(fresh)
	q.Set("by", string(by))
	return get[Groups](ctx, c, "/v1/groups", q)
}

// Orphans asks who left orphans behind.
func (c *Client) Orphans(ctx context.Context, fresh bool) (*Orphans, error) {
	return get[Orphans](ctx, c, "/v1/orphans", freshness(fresh))
}

// Doctor asks what the daemon's host and rights allow.
func (c *Client) Doctor(ctx context.Context) (*Doctor, error) {
	return get[Doctor](ctx, c, "/v1/doctor", nil)
}

// SocketQuery says which sockets to list.
type SocketQuery struct {
	Filter string // text of package filter; "" matches all
	Limit  int    // the biggest so many; 0: all
	Info   bool   // with TCPInfo
}

// Sockets lists sockets.
func (c *Client) Sockets(ctx context.Context, q SocketQuery) (*Sockets, error) {
	values := url.Values{"filter": {q.Filter}, "limit": {strconv.Itoa(q.Limit)}}
	if q.Info {
		values.Set("info", "1")
	}
	body, err := c.open(ctx, "/v1/sockets", values)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return readSocketStream(body, q.Limit, &c.rows)
}

// SocketFrame is one line of the answer to a query for sockets: a socket, or
// at the end the document without its rows, or what went wrong meanwhile. An
// answer without an end is not whole.
type SocketFrame struct {
	Socket *Socket  `json:"socket,omitempty"`
	End    *Sockets `json:"end,omitempty"`
	Error  string   `json:"error,omitempty"`
}

// readSocketStream keeps the limit biggest, 0 for all, and never many more: there
// may be millions.
func readSocketStream(body io.Reader, limit int, count *atomic.Int64) (*Sockets, error) {
	rows := Sockets{Sockets: []Socket{}}
	cut := func() {
		SortSockets(rows.Sockets)
		rows.keep(limit)
	}
	dec := json.NewDecoder(bufio.NewReaderSize(body, 64<<10))
	for {
		var frame SocketFrame
		if err := dec.Decode(&frame); err != nil {
			return nil, fmt.Errorf("read sockets: the answer is not whole: %w", whole(err))
		}
		switch {
		case frame.Error != "":
			return nil, &RequestError{Status: http.StatusInternalServerError, Message: frame.Error}
		case frame.End != nil:
			cut()
			frame.End.Sockets = rows.Sockets
			frame.End.Truncated.Add(rows.Truncated.Sockets, rows.Truncated.Bytes)
			return frame.End, nil
		case frame.Socket != nil:
			rows.Sockets = append(rows.Sockets, *frame.Socket)
			count.Add(1)
			if limit > 0 && len(rows.Sockets) >= 2*max(limit, 1024) {
				cut()
			}
		}
	}
}

func freshness(fresh bool) url.Values {
	q := make(url.Values)
	if fresh {
		q.Set("fresh", "1")
	}
	return q
}

func get[T any](ctx context.Context, c *Client, path string, query url.Values) (*T, error) {
	body, err := c.open(ctx, path, query)
	if err != nil {
		return nil, err
	}
	return decode[T](body, path)
}

// decode reads a document and closes the answer.
func decode[T any](body io.ReadCloser, path string) (*T, error) {
	defer body.Close()
	doc := new(T)
	if err := json.NewDecoder(body).Decode(doc); err != nil {
		return nil, fmt.Errorf("read %s: the answer is not whole: %w", path, whole(err))
	}
	return doc, nil
}

func (c *Client) open(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	return c.send(ctx, http.MethodGet, path, query, nil)
}

// send makes a request whose path is escaped already.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, request io.Reader) (io.ReadCloser, error) {
	u := "http://tcpmemd" + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, request)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // its text holds nothing but our own made-up URL
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			return nil, fmt.Errorf("ask daemon on %s: it does not answer: %w", c.socket, err)
		}
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var p Problem
	if json.Unmarshal(text, &p) != nil {
		p.Error = string(bytes.TrimSpace(text))
	}
	refusal := &RequestError{Status: resp.StatusCode, Message: cmp.Or(p.Error, resp.Status)}
	switch resp.StatusCode {
	case http.StatusForbidden:
		return nil, &DeniedError{Message: refusal.Message}
	case http.StatusUnprocessableEntity:
		return nil, &ConfigError{Message: refusal.Message}
	}
	return nil, refusal
}

// whole calls an end of file in the middle of a document by its name.
func whole(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
