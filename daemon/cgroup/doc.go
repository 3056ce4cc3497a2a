// Package cgroup turns the cgroup of a socket or a process into a name that a
// person knows.
//
// A socket carries the id of its cgroup (INET_DIAG_CGROUP_ID in
// include/uapi/linux/inet_diag.h), and keeps it after the directory is gone;
// nothing can resolve the id then. So a [Tree] remembers id and path while
// the directory lives. [Parse] reads unit, user manager, container and pod
// out of a path, without any I/O, and [Pods] adds the names that kubelet
// leaves in /var/log.
//
// All of it is text: what Parse says is a label. Which unit PID 1 means by a
// path, and with it what may be acted upon, is for package units to say.
package cgroup
