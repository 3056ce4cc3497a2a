package policy

import "testing"

// What a budget prints is what it was read from: rules are told apart by it.
func TestBudgetText(t *testing.T) {
	for _, text := range []string{"2 per 1h", "1 per 10m", "3 per 1h30m", "0 per 1m", "1000 per 720h", "4 per 1m30s", "1 per 2h0m10s"} {
		b, err := ParseBudget(text)
		if err != nil || b.String() != text {
			t.Errorf("%s reads as %s (%v)", text, b, err)
		}
	}
	for _, text := range []string{"", "2", "2 per", "x per 1h", "-1 per 1h", "2 per 5", "2 per 1s", "1001 per 1h", "2 per 721h", "2 for 1h"} {
		if b, err := ParseBudget(text); err == nil {
			t.Errorf("%q reads as %s", text, b)
		}
	}
}
