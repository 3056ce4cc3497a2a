// Package policy decides what the rules of an operator ask for, and whether it
// may be done. It is pure: readings, times and outcomes go in, changes of
// state and decisions come out; nothing here reads the host or acts.
//
// A [Rule] has a condition, kept per key (the host, an owner, ...). Where it
// holds for long enough the key fires, and the rule's steps are taken one after
// the other: [Engine.Turn] says which are due. Telling is never blocked. What
// touches the host or an owner passes the guards (see guards), once when it is
// decided and, by [Engine.Recheck], again right before it starts.
package policy
