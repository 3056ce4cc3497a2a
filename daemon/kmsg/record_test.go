package kmsg

import (
	"bytes"
	"testing"
)

func TestParseRecord(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		facility uint64
		seq      uint64
		message  string
	}{
		{
			"kernel", "6,339,5140900,-;TCP: out of memory -- consider tuning tcp_mem\n",
			0, 339, "TCP: out of memory -- consider tuning tcp_mem",
		},
		{"with caller", "4,7,1,-,caller=T123;hello\n", 0, 7, "hello"},
		{"with device", "6,8,1,-;usb 1-1: new\n SUBSYSTEM=usb\n DEVICE=c189:1\n", 0, 8, "usb 1-1: new"},
		{"userspace default", "12,342,1124488749,-;TCP: out of memory\n", 1, 342, "TCP: out of memory"},
		{"daemon", "30,345,1,-;x\n", 3, 345, "x"},
		{"semicolons", "6,1,2,-;a;b\n", 0, 1, "a;b"},
		{"empty message", "6,1,2,-;\n", 0, 1, ""},
		{"continuation", "6,1,2,c;part\n", 0, 1, "part"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := parseRecord([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if r.facility != tt.facility || r.seq != tt.seq || string(r.message) != tt.message {
				t.Errorf("got facility %d seq %d message %q, want %d, %d, %q",
					r.facility, r.seq, r.message, tt.facility, tt.seq, tt.message)
			}
		})
	}
}

func TestParseRecordRefuses(t *testing.T) {
	for _, in := range []string{
		"", ";", "\n", ";\n", "6;x\n", "6,1;x\n", "6,1,2,-;x", "6,1,2,-", "x,1,2,-;m\n", "6,x,2,-;m\n",
		"-6,1,2,-;m\n", "6,-1,2,-;m\n", "6,18446744073709551616,2,-;m\n", "4294967296,1,2,-;m\n", "\x00,1,2,-;m\n",
	} {
		if r, err := parseRecord([]byte(in)); err == nil {
			t.Errorf("parseRecord(%q) = %+v, want an error", in, r)
		}
	}
}

func TestClassify(t *testing.T) {
	for in, want := range map[string]kind{
		"TCP: out of memory -- consider tuning tcp_mem":                               outOfMemory,
		"TCP: TCP: out of memory -- consider tuning tcp_mem":                          outOfMemory,
		"out of memory -- consider tuning tcp_mem":                                    outOfMemory,
		"TCP: too many orphaned sockets":                                              tooManyOrphans,
		"too many orphaned sockets":                                                   tooManyOrphans,
		"nf_conntrack: nf_conntrack: table full, dropping packet":                     conntrackFull,
		"nf_conntrack: table full, dropping packet":                                   conntrackFull,
		"nf_conntrack: nf_conntrack: table full in netns 4026531840, dropping packet": conntrackFull,
		"table full":                          other,
		"Out of memory: Killed process 1 (x)": other,
		"out of memory":                       other,
		"TCP: request_sock_TCP: Possible SYN flooding on port 80.": other,
		"x[1]: TCP: out of memory":                                 other,
		"audit: name=\"TCP: out of memory\"":                       other,
		"TCP: ":                                                    other,
		"":                                                         other,
	} {
		if got := classify([]byte(in)); got != want {
			t.Errorf("classify(%q) = %d, want %d", in, got, want)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	for _, s := range []string{
		"6,339,5140900,-;TCP: out of memory -- consider tuning tcp_mem\n",
		"4,7,1,-,caller=T123;nf_conntrack: nf_conntrack: table full, dropping packet\n SUBSYSTEM=x\n",
		"12,342,1124488749,-;TCP: too many orphaned sockets\n",
		"", ";;", "6,1,2,-;\\x0a\\x00\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecord(data)
		if err != nil {
			return
		}
		if bytes.IndexByte(r.message, '\n') >= 0 || !bytes.Contains(data, r.message) {
			t.Fatalf("message %q of %q", r.message, data)
		}
		if classify(r.message) != other && len(r.message) < len("TCP: out of memory") {
			t.Fatalf("%q counts", r.message)
		}
	})
}
