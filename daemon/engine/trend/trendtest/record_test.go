package trendtest_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/engine/trend/trendtest"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

func sample() reading.Sample {
	return reading.Sample{
		At: time.Now(), PageSize: 4096, Used: 1234, ReserveMax: 512,
		Mem: reading.TCPMem{Min: 100, Pressure: 200, Max: 300},
	}
}

// full has everything that a recording keeps.
func full() reading.Reading {
	o := reading.Owner{
		Key: "system/a.service", Name: "system/a.service", Kind: reading.KindService, InvocationID: "77",
		Holders: []reading.Holder{{PID: 7, StartTime: 99}}, HolderCount: 1,
		Sum: reading.Tally{Sockets: 3, Bytes: 8192}, Receive: 4000, Send: 4000, Reserved: 192, Unread: 3000,
		Stalled: new(int64(4096)), Young: new(int64(0)),
		StalledReceive: &reading.Tally{Sockets: 2, Bytes: 3000}, StalledSend: &reading.Tally{Sockets: 1, Bytes: 700},
		Peers: []reading.Peer{{Owner: "system/b.service", Address: "127.0.0.1", Tally: reading.Tally{Sockets: 1, Bytes: 4000}}},
	}
	o.States[reading.CloseWait] = 2
	o.Classes[reading.Owned] = reading.Tally{Sockets: 3, Bytes: 8192}
	return reading.Reading{Sample: sample(), Level: reading.Elevated, Owners: []reading.Owner{o, {Key: "system/other.service"}}}
}

func TestRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		steps := 0
		r, err := trendtest.Record(t.Context(), trendtest.Header{Name: "x", Origin: trendtest.RealSockets}, trendtest.Plan{
			Duration:    time.Minute,
			SampleEvery: time.Second,
			ScanEvery:   func(reading.Level) time.Duration { return 5 * time.Second },
			Step:        func(context.Context, time.Duration) error { steps++; return nil },
			Keep:        func(o *reading.Owner) bool { return strings.HasSuffix(o.Key, "/a.service") },
			Rename:      func(key string) string { return strings.TrimPrefix(key, "system/") },
		}, trendtest.Source{
			Sample: func(context.Context) (reading.Sample, error) { return sample(), nil },
			Scan:   func(context.Context) (reading.Reading, error) { return full(), nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Observations) != 60 || steps != 60 {
			t.Errorf("%d observations and %d steps in a minute, want 60", len(r.Observations), steps)
		}
		start := time.Now()
		scans := 0
		for i := range r.Observations {
			got, ok := r.Reading(&r.Observations[i], start)
			if !ok {
				continue
			}
			scans++
			want := full()
			want.Sample.At = got.Sample.At
			want.Owners = want.Owners[:1]
			want.Owners[0].Key, want.Owners[0].Name = "a.service", "a.service"
			want.Owners[0].Peers[0].Owner = "b.service"
			if diff := cmp.Diff(&want, got); diff != "" {
				t.Fatalf("observation %d (-want +got):\n%s", i, diff)
			}
		}
		if scans != 12 {
			t.Errorf("%d scans in a minute, want 12", scans)
		}

		for _, name := range []string{"r.jsonl", "r.jsonl.gz"} {
			path := filepath.Join(t.TempDir(), name)
			if err := r.WriteFile(path); err != nil {
				t.Fatal(err)
			}
			kept, err := trendtest.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(r, kept); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	})
}

func TestRecordError(t *testing.T) {
	broken := errors.New("broken")
	_, err := trendtest.Record(t.Context(), trendtest.Header{Name: "x"}, trendtest.Plan{
		Duration: time.Minute, SampleEvery: time.Second,
		ScanEvery: func(reading.Level) time.Duration { return time.Second },
	}, trendtest.Source{Scan: func(context.Context) (reading.Reading, error) { return reading.Reading{}, broken }})
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
}

func TestDecodeErrors(t *testing.T) {
	for name, in := range map[string]string{
		"empty":         "",
		"other version": `{"version":9}`,
		"unknown field": `{"version":1,"colour":"red"}`,
		"cut":           `{"version":1}` + "\n" + `{"t":1`,
	} {
		t.Run(name, func(t *testing.T) {
			if r, err := trendtest.Decode(strings.NewReader(in)); err == nil {
				t.Errorf("decoded %+v, want an error", r)
			}
		})
	}
}

func TestCut(t *testing.T) {
	whole := &trendtest.Recording{Header: trendtest.Header{Name: "host", PageSize: 4096, Mem: [3]int64{1, 2, 3}, ReserveMax: 4}}
	o := trendtest.FromReading(new(full()), 0, nil)
	s := sample()
	whole.Observations = append(whole.Observations, o, trendtest.FromSample(&s, time.Second))
	got := whole.Cut(trendtest.Header{Name: "one"}, func(key string) bool { return key == "system/a.service" })
	if got.Name != "one" || got.PageSize != 4096 || got.Mem != whole.Mem || got.ReserveMax != 4 {
		t.Errorf("header %+v", got.Header)
	}
	if len(got.Observations) != 1 || len(got.Observations[0].Owners) != 1 || got.Observations[0].Used != 2 {
		t.Errorf("observations %+v, want one of one owner and 2 pages", got.Observations)
	}
	if len(whole.Observations[0].Owners) != 2 {
		t.Error("the whole recording was changed")
	}
}
