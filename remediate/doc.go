// Package remediate is the contract between tcpmemd and the actions it can
// take. An action is a program of its own; tcpmemd starts it, asks what it is
// (Describe), whether its settings make sense (Validate), and has it act (Run)
// and, where it can, take that back (Undo). A program in Go writes one type
// that implements [Action] and calls [Serve]; in any other language
// proto/remediate.proto is enough, spoken by the rules of tcpmemd-plugin(7).
//
// What may act on whom is decided before, by tcpmemd: an action is only run on
// a target that the guards let through. The action has the last look: it
// checks the target's identity right before it acts, and refuses when in
// doubt. Refused is a right answer.
//
// The package imports nothing of the daemon: a plugin author pulls in no
// kernel code.
package remediate
