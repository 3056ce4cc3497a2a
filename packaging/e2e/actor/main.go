// Command actor runs one built-in action inside a machine, as tcpmemd would
// but without tcpmemd:
//
//	actor probe                      says whether destroyed orphans vanish
//	actor request OWNER              scans, and writes a request about an owner
//	actor run ACTION < REQUEST       runs an action and writes its response
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/direct"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/sockdiag"
	"github.com/tcpmemd/tcpmemd/plugins/builtin"
	"github.com/tcpmemd/tcpmemd/remediate"
)

func main() {
	flag.Parse()
	var out any
	var err error
	switch ctx := context.Background(); flag.Arg(0) {
	case "probe":
		out, err = sockdiag.ProbeOrphans(ctx)
	case "request":
		out, err = request(ctx, flag.Arg(1))
	case "run":
		out, err = run(ctx, flag.Arg(1))
	default:
		err = errors.New("want probe, request or run")
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "actor:", err)
		os.Exit(1)
	}
}

// run reads a request. Its deadline counts from now.
func run(ctx context.Context, name string) (*remediate.Response, error) {
	var r remediate.Request
	if err := json.NewDecoder(os.Stdin).Decode(&r); err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	const limit = 45 * time.Second
	r.Deadline = time.Now().Add(limit)
	ctx, cancel := context.WithDeadline(ctx, r.Deadline)
	defer cancel()
	if a := builtin.Find("e2e", name); a != nil {
		return a.Run(ctx, &r)
	}
	return nil, fmt.Errorf("no action %q", name)
}

// request names an owner and all of its sockets, as tcpmemd does.
func request(ctx context.Context, key string) (r *remediate.Request, err error) {
	vanish, err := sockdiag.ProbeOrphans(ctx)
	if err != nil {
		return nil, err
	}
	host, err := direct.Open(ctx, "e2e")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	now, err := host.Read(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(now.Owners, func(o reading.Owner) bool { return o.Key == key })
	if i < 0 {
		return nil, fmt.Errorf("no owner %q", key)
	}
	o := &now.Owners[i]
	r = &remediate.Request{
		Key: key, Host: remediate.Host{OrphansVanish: vanish},
		Owner: &remediate.Owner{
			Key: key, Name: o.Name, Kind: string(o.Kind), Unit: o.Unit, Manager: o.Manager, UnitVerified: o.UnitVerified,
			InvocationID: o.InvocationID, Bytes: o.Sum.Bytes, Protected: o.Protected, Shared: o.Shared,
			Classes: map[string]remediate.Tally{},
		},
	}
	for class, t := range o.Classes {
		r.Owner.Classes[reading.Class(class).String()] = remediate.Tally(t)
	}
	inside := map[uint32]int{}
	err = host.Sockets(ctx, func(s *reading.Socket) bool { return s.Owner == key }, func(s *reading.Socket) error {
		named := remediate.Socket{
			NetnsInode: s.Netns.Inode, NetnsCookie: s.Netns.Cookie, Cookie: uint64(s.Cookie), MPTCP: s.MPTCP,
			State: s.State.String(), Class: s.Class.String(), Local: s.Local.String(), Remote: s.Remote.String(),
			Interface: s.Interface, Inode: s.Inode, CgroupID: s.CgroupID,
			Receive: int64(s.Mem.RmemAlloc), Send: int64(s.Mem.WmemQueued), Bytes: s.Mem.Bytes(),
		}
		if s.Holder != nil {
			named.HolderPID = s.Holder.PID
			inside[s.Netns.Inode] = s.Holder.PID
		}
		r.Sockets = append(r.Sockets, named)
		return nil
	})
	for i := range r.Sockets {
		r.Sockets[i].NetnsPID = inside[r.Sockets[i].NetnsInode]
	}
	return r, err
}
