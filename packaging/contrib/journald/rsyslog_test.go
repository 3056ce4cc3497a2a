// Package journald has examples for those who read tcpmemd's alerts from the
// journal.
package journald

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/journal"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

const (
	envHost = "TCPMEMD_TEST_LOG_HOST" // the folder of the host that this program is to be
	// remote writes journal files; Debian: systemd-journal-remote.
	remote  = "/lib/systemd/systemd-journal-remote"
	machine = "0123456789abcdef0123456789abcdef"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envHost); dir != "" {
		if err := beHost(dir); err != nil {
			fmt.Fprintln(os.Stderr, "host:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestSyntax: rsyslog takes the file as it is shipped.
func TestSyntax(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), require.Tool(t, "rsyslogd"), "-N1", "-f", "rsyslog.conf").CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("error")) || bytes.Contains(out, []byte("warning")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestForwarding: a real rsyslogd reads a real journal that has what the daemon
// tells, and sends the alerts, and nothing else, as JSON with all their fields.
func TestForwarding(t *testing.T) {
	require.Root(t)
	require.Tool(t, "rsyslogd")
	for _, path := range []string{remote, "/etc/machine-id"} {
		if _, err := os.Stat(path); err != nil {
			require.Missing(t, path, "whether alerts arrive is not tried")
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	text, err := os.ReadFile("rsyslog.conf")
	if err != nil {
		t.Fatal(err)
	}
	conf := strings.Replace(string(text), `target="logs.example" port="6514"`, `target="127.0.0.1" port="`+port+`"`, 1)
	if conf == string(text) {
		t.Fatal("the example has another target")
	}
	alert := event.Firing(event.Case{
		Rule: "container-leak", About: "a container leaks", Severity: event.Critical, Incident: "20261127-1", Key: "container/x",
		Owner: &record.Suspect{
			Name: "shop/queue-0/worker", Kind: reading.KindContainer, Bytes: 1 << 30,
			Container: &reading.Container{ID: "x", Name: "worker"}, Pod: &reading.Pod{Namespace: "shop", Name: "queue-0", UID: "u"},
		},
	})
	quiet := alert
	quiet.Severity = event.Info
	told, whispered := entry(t, alert), entry(t, quiet)
	for name, data := range map[string]string{
		"rsyslog.conf": "global(workDirectory=\"" + dir + "\")\n" + conf,
		"before":       export(whispered, "tcpmemd.service"),
		"after":        export(whispered, "tcpmemd.service") + export(told, "forger.service") + export(told, "tcpmemd.service"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	runtime.LockOSThread() // Pdeathsig comes when this thread ends
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), envHost+"="+dir)
	// rsyslogd ends with it: in a PID namespace of its own.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s", errs.Bytes())
		}
	}()
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	for name, want := range fields(told) {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	for name, want := range map[string]string{
		"_SYSTEMD_UNIT": "tcpmemd.service", "PRIORITY": "2", "TCPMEMD_POD": "queue-0", "TCPMEMD_NAMESPACE": "shop",
		"TCPMEMD_CONTAINER": "worker", "TCPMEMD_OWNER_BYTES": "1073741824",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
}

// entry is what the daemon's own writer sends journald of a text.
func entry(t *testing.T, text event.Text) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	w := journal.New(path, func(int, uint64) bool { return false })
	defer w.Close(time.Second)
	w.Tell(text)
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 1<<16)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// export is an entry in the Journal Export Format, which is the native protocol
// with what journald adds.
func export(entry, unit string) string {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return fmt.Sprintf("__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=%s\n_MACHINE_ID=%s\n_SYSTEMD_UNIT=%s\n%s\n",
		time.Now().UnixMicro(), time.Now().UnixMicro(), strings.ReplaceAll(strings.TrimSpace(string(boot)), "-", ""), machine, unit, entry)
}

var oneLine = regexp.MustCompile(`(?m)^([A-Z_]+)=(.*)$`)

// fields are those of an entry that take one line.
func fields(entry string) map[string]string {
	all := map[string]string{}
	for _, m := range oneLine.FindAllStringSubmatch(entry, -1) {
		all[m[1]] = m[2]
	}
	return all
}

// beHost is a host with a journal, and with rsyslogd, to which entries come.
func beHost(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	for _, hidden := range []string{"/run", "/var/log"} {
		if err := unix.Mount("tmpfs", hidden, "tmpfs", 0, "mode=755"); err != nil {
			return err
		}
	}
	id := filepath.Join(dir, "machine-id")
	if err := os.WriteFile(id, []byte(machine+"\n"), 0o600); err != nil {
		return err
	}
	if err := unix.Mount(id, "/etc/machine-id", "", unix.MS_BIND, ""); err != nil {
		return err
	}
	file := filepath.Join("/run/log/journal", machine, "system.journal")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	add := func(name string) error {
		in, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		defer in.Close()
		cmd := exec.CommandContext(context.Background(), remote, "-o", file, "-")
		cmd.Stdin = in
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := add("before"); err != nil {
		return err
	}
	cmd := exec.CommandContext(context.Background(), "rsyslogd", "-n", "-f", filepath.Join(dir, "rsyslog.conf"), "-i", filepath.Join(dir, "pid"))
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	// It does not say when it has begun to read, and what comes before is history.
	for {
		time.Sleep(time.Second)
		if err := add("after"); err != nil {
			return err
		}
	}
}
