package store

type readings struct {
	waiting []int
	dropped uint64
}

func (s *Store) writeHistory() error { return nil }
