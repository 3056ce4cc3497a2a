// Package api is what tcpmemd says to the outside: the JSON documents of the
// commands' contract (version 1), the conversion of a reading into them, and
// a client for the daemon's Unix socket.
//
// The rules of the contract hold for every document: what is not known is
// null and never 0; bytes are signed 64-bit; all classes are always present;
// lists are never null; owners come in order of bytes descending, then key;
// fields may be added, never renamed. Validate checks them.
//
// Names and commands in a document were chosen by processes. JSON escapes
// their control characters; who prints them to a terminal must escape them.
package api

// Version is the version of every document of this package.
const Version = 1
