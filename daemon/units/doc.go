// Package units asks the host's PID 1 which unit a control group belongs to,
// and what state that unit is in, over D-Bus.
//
// Only PID 1's own word makes a unit a target: a cgroup path is text that
// whoever owns a delegated subtree can choose (package cgroup reads labels
// out of it), PID 1's answer is not. All reading needs no more than what the
// bus policy of systemd allows anybody. TryRestart alone changes something, and
// is for root.
//
// The interface is org.freedesktop.systemd1(5), as of systemd 247. It is
// spoken with godbus alone: the connection of go-systemd opens two sockets,
// subscribes to signals, and waits for its first reply without a deadline.
package units
