// Package remediate is the contract between tcpmemd and the actions it can
// take. An action is a program of its own; tcpmemd starts it, asks what it is
// (Describe), whether its settings make sense (Validate), and has it act (Run)
// and, where it can, take that back (Undo). A program in Go writes one type
// that implements [Action] and calls [Serve]; in any other language
// proto/remediate.proto is enough, spoken by the rules below.
//
// What may act on whom is decided before, by tcpmemd: an action is only run on
// a target that the guards let through. The action has the last look: it
// checks the target's identity right before it acts, and refuses when in
// doubt. Refused is a right answer.
//
// # In another language
//
// tcpmemd starts the plugin with TCPMEMD_PLUGIN=remediate in the environment,
// which has nothing else of the host's but PATH and LANG. The plugin
//
//   - listens on a Unix socket in the folder $PLUGIN_UNIX_SOCKET_DIR, which is
//     its own, as $TMPDIR is, and is removed at its end;
//   - serves remediate.v1.Action there, by gRPC without TLS;
//   - prints one line on its standard output within 5 s, flushed:
//     1|1|unix|PATH OF THE SOCKET|grpc
//     (go-plugin's protocol, version of this contract, network, address, and
//     what is spoken);
//   - ends when its standard input ends, or within a second of it. tcpmemd
//     writes nothing there; it closes it to end the plugin, and the kernel does
//     when tcpmemd is gone.
//
// What it prints later, and its standard error, goes to tcpmemd's log, ten
// lines a second. It is started without any capability to describe itself and
// to check settings, and with those that it declared to act; always with
// no_new_privs, so that set-user-ID programs give it no more. What it has
// started ends with it, also in the background. A call that has not been
// answered half a second after its deadline ends it.
//
// examples has one plugin in Python and one in Go.
//
// The package imports nothing of the daemon: a plugin author pulls in no
// kernel code.
package remediate
