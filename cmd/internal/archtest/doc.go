// Package archtest holds the import directions of ARCHITECTURE.md as a test:
//
//	cmd -> daemon -> engine, scan, store -> leaves -> reading
//
// The linter says the same while one types; this says it wherever the tests
// run, and sees through other packages.
package archtest
