package runcommand

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/remediate"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestValidate: each way in which somebody else could have chosen what runs.
func TestValidate(t *testing.T) {
	dir := folder(t)
	file := func(name string, mode os.FileMode) string {
		name = filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte("#!/bin/sh\n"), mode), os.Chmod(name, mode))
		return name
	}
	good := file("good", 0o755)
	link := func(name, to string) string {
		name = filepath.Join(dir, name)
		must(t, os.Symlink(to, name))
		return name
	}
	theirs := file("theirs", 0o755)
	must(t, os.Chown(theirs, 1, 0))
	inWritable := file("writable/program", 0o755)
	must(t, os.Chmod(filepath.Dir(inWritable), 0o775))
	inSticky := file("sticky/program", 0o755)
	must(t, os.Chmod(filepath.Dir(inSticky), 0o1777|os.ModeSticky))
	inTheirs := file("folder/program", 0o755)
	must(t, os.Chown(filepath.Dir(inTheirs), 1, 0))
	theirLink := link("their-link", good)
	must(t, os.Lchown(theirLink, 1, 0))
	pipe := filepath.Join(dir, "pipe")
	must(t, unix.Mkfifo(pipe, 0o700))
	link("a", "b")

	tests := []struct{ name, program, problem string }{
		{"good", good, ""},
		{"shell", "/bin/sh", ""},
		{"link to good", link("to-good", "./good"), ""},
		{"link up and down", link("to-up", "../"+filepath.Base(dir)+"/good"), ""},
		{"absent", dir + "/absent", "no such file or directory"},
		{"relative", "good", `"good" is not an absolute path`},
		{"empty", "", "no program"},
		{"a directory", dir, "not a regular file"},
		{"a pipe", pipe, "not a regular file"},
		{"not executable", file("text", 0o644), "not executable"},
		{"wrong owner", theirs, `theirs" belongs to user 1, not to root`},
		{"group-writable", file("group", 0o775), "may be written by others than root (mode 0775)"},
		{"world-writable", file("world", 0o757), "may be written by others than root (mode 0757)"},
		{"writable folder above", inWritable, `/writable" may be written by others than root (mode 0775)`},
		{"sticky folder above", inSticky, `/sticky" may be written by others than root`},
		{"their folder above", inTheirs, `/folder" belongs to user 1`},
		{"link to theirs", link("to-theirs", theirs), "belongs to user 1"},
		{"link into a writable folder", link("to-writable", "writable/program"), "may be written by others"},
		{"their link", theirLink, `/their-link" belongs to user 1`},
		{"link to itself", link("b", "a"), "too many symbolic links"},
		{"file as folder", good + "/x", "not a directory"},
		{"hostile name", dir + "/a\n\x1b[31m", `/a\n\x1b[31m": no such file`},
		{"long name", "/" + strings.Repeat("x", 4000), "file name too long"},
	}
	for _, tt := range tests {
		problems := New("1").Validate(t.Context(), command(t, tt.program))
		if tt.problem == "" {
			if problems != nil {
				t.Errorf("%s: %v", tt.name, problems)
			}
			continue
		}
		if len(problems) != 1 || problems[0].Setting != "command" || !strings.Contains(problems[0].Message, tt.problem) ||
			strings.ContainsAny(problems[0].Message, "\n\x1b") || len(problems[0].Message) > 1000 {
			t.Errorf("%s: %v", tt.name, problems)
		}
	}
	for _, s := range []string{`{}`, `{"command":"/bin/sh"}`, `{"command":["/bin/sh"],"comand":[]}`, `{"command":[]}`} {
		if problems := New("1").Validate(t.Context(), remediate.Settings(s)); len(problems) != 1 {
			t.Errorf("%s: %v", s, problems)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if problems := New("1").Validate(ctx, command(t, good)); len(problems) != 1 {
		t.Errorf("given up: %v", problems)
	}
}

// TestSwapped: a program that was good at load is looked at again.
func TestSwapped(t *testing.T) {
	name := script(t, "exit 0")
	s := command(t, name)
	if problems := New("1").Validate(t.Context(), s); problems != nil {
		t.Fatal(problems)
	}
	must(t, os.Chown(name, 1, 1))
	if resp := run(t, request(s, time.Second)); resp.Result != remediate.Refused || resp.Code != "untrusted-program" {
		t.Errorf("%+v", resp)
	}
	// One that cannot be run at all is a failure of the action.
	must(t, os.Chown(name, 0, 0), os.WriteFile(name, []byte("no program"), 0o755))
	_, err := New("1").Run(t.Context(), request(s, time.Second))
	if err == nil || !strings.HasPrefix(err.Error(), `run "/run/`) || !strings.HasSuffix(err.Error(), "exec format error") {
		t.Errorf("error %v", err)
	}
	if _, err := New("1").Run(t.Context(), request(remediate.Settings(`{}`), time.Second)); err == nil {
		t.Error("no error without a command")
	}
	if _, err := New("1").Run(t.Context(), request(command(t, "/bin/true"), -time.Second)); err == nil {
		t.Error("no error after the deadline")
	}
}
