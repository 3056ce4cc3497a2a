// Package proto is remediate.proto in Go: what goes over a plugin's socket.
// Authors of actions in Go use package remediate instead.
package proto

//go:generate ./generate
