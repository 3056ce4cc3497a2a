package scan

import "time"

// LastFull says when every process was last read: a scan that leaves it alone
// did not search.
func (s *Scanner) LastFull() time.Time { return s.lastFull }

// Age makes what the scanner remembers of processes and cgroups older.
func (s *Scanner) Age(by time.Duration) {
	for i := range s.sources.procs {
		s.sources.procs[i].at = s.sources.procs[i].at.Add(-by)
	}
	for path, g := range s.sources.byPath {
		g.at = g.at.Add(-by)
		s.sources.byPath[path] = g
	}
	for id, c := range s.sources.byID {
		c.at = c.at.Add(-by)
		s.sources.byID[id] = c
	}
}

// Namespaces counts the network namespaces whose counters may be open.
func (s *Scanner) Namespaces() int { return len(s.netns.All()) }
