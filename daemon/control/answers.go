package control

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/filter"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

func (s *Server) status(r *http.Request) (any, error) {
	state, err := s.source.State(r.Context())
	if err != nil {
		return nil, err
	}
	return api.StatusFrom(s.source.Meta(), state), nil
}

func (s *Server) health(r *http.Request) (any, error) {
	state, err := s.source.State(r.Context())
	if err != nil {
		return nil, err
	}
	return api.HealthFrom(s.source.Meta(), state), nil
}

func (s *Server) owners(r *http.Request) (any, error) {
	read, err := s.source.Read(r.Context(), fresh(r.URL.Query()))
	if err != nil {
		return nil, err
	}
	return api.OwnersFrom(s.source.Meta(), read), nil
}

func (s *Server) groups(r *http.Request) (any, error) {
	by, err := api.ParseBy(r.URL.Query().Get("by"))
	if err != nil {
		return nil, &problem{http.StatusBadRequest, err.Error()}
	}
	read, err := s.source.Read(r.Context(), fresh(r.URL.Query()))
	if err != nil {
		return nil, err
	}
	return api.CollectGroups(r.Context(), s.source.Meta(), read, s.source, by)
}

func (s *Server) orphans(r *http.Request) (any, error) {
	read, err := s.source.Read(r.Context(), fresh(r.URL.Query()))
	if err != nil {
		return nil, err
	}
	return api.CollectOrphans(r.Context(), s.source.Meta(), read, s.source)
}

func (s *Server) doctor(r *http.Request) (any, error) {
	checks, err := s.source.Doctor(r.Context())
	if err != nil {
		return nil, err
	}
	return api.DoctorFrom(s.source.Meta(), checks), nil
}

// sockets answers with one api.SocketFrame on each line. A list with a small
// limit is collected here: the biggest sockets. Any other is written as the
// sockets come, so that the daemon never holds many; the client limits it.
func (s *Server) sockets(w http.ResponseWriter, r *http.Request) error {
	query, want, err := parseSocketQuery(r.URL.Query())
	if err != nil {
		return &problem{http.StatusBadRequest, err.Error()}
	}
	read, err := s.source.Read(r.Context(), false)
	if err != nil {
		return err
	}
	owners := api.OwnerIndex(read)
	match := want.Want(owners)
	out := newFrames(w)
	if query.Limit > 0 && query.Limit <= maxCollected {
		return s.biggest(r.Context(), out, read, match, query)
	}

	end := api.SocketsFrom(s.source.Meta(), read)
	end.Filter = query.Filter
	err = s.source.Sockets(r.Context(), match, func(socket *reading.Socket) error {
		row := api.SocketFrom(socket, owners[socket.Owner])
		end.Matched.Add(1, row.Bytes)
		return out.write(api.SocketFrame{Socket: &row})
	})
	if err != nil {
		// The head of the answer may have gone out: say it in the stream.
		_ = out.write(api.SocketFrame{Error: s.problemOf(context.WithoutCancel(r.Context()), err).message})
	} else {
		_ = out.write(api.SocketFrame{End: end})
	}
	out.flush()
	return nil
}

func (s *Server) biggest(ctx context.Context, out *frames, read *reading.Reading,
	match func(*reading.Socket) bool, query api.SocketQuery,
) error {
	var more func(*reading.Socket, *api.Socket)
	if query.Info {
		more = func(socket *reading.Socket, row *api.Socket) {
			// A connection that ended meanwhile has no info; that is no failure.
			if api.HasInfo(socket) {
				row.TCPInfo, _ = s.source.Info(ctx, socket)
			}
		}
	}
	doc, err := api.CollectSockets(ctx, s.source.Meta(), read, s.source, match, query.Limit, more)
	if err != nil {
		return err
	}
	doc.Filter = query.Filter
	for i := range doc.Sockets {
		_ = out.write(api.SocketFrame{Socket: &doc.Sockets[i]}) // an error here is the client's, which has gone away
	}
	doc.Sockets = []api.Socket{}
	_ = out.write(api.SocketFrame{End: doc})
	out.flush()
	return nil
}

func parseSocketQuery(values url.Values) (api.SocketQuery, *filter.Filter, error) {
	q := api.SocketQuery{Filter: values.Get("filter"), Info: values.Get("info") == "1"}
	want, err := filter.Parse(q.Filter)
	if err != nil {
		return q, nil, err
	}
	if text := values.Get("limit"); text != "" {
		q.Limit, err = strconv.Atoi(text)
		if err != nil || q.Limit < 0 {
			return q, nil, fmt.Errorf("limit %.20q is not a whole number", text)
		}
	}
	if q.Info && (q.Limit == 0 || q.Limit > maxInfo) {
		return q, nil, fmt.Errorf("TCP info is asked for at most %d sockets at a time: set a limit", maxInfo)
	}
	return q, want, nil
}

func fresh(values url.Values) bool { return values.Get("fresh") == "1" }

// frames writes lines of JSON.
type frames struct {
	w   *bufio.Writer
	enc *json.Encoder
}

func newFrames(w http.ResponseWriter) *frames {
	w.Header().Set("Content-Type", "application/x-ndjson")
	buffered := bufio.NewWriterSize(w, 64<<10)
	return &frames{w: buffered, enc: json.NewEncoder(buffered)}
}

func (f *frames) write(frame any) error { return f.enc.Encode(frame) }

// flush ends the answer; its error is the client's, which has gone away.
func (f *frames) flush() { _ = f.w.Flush() }
