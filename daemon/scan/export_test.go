package scan

import "time"

// LastFull says when every process was last read: a scan that leaves it alone
// did not search.
func (s *Scanner) LastFull() time.Time { return s.lastFull }
