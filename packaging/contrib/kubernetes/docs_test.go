package kubernetes

import (
	"bytes"
	"context"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v2"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/apitest"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

var update = flag.Bool("update", false, "write the outputs of the page anew")

const page = "../../../docs/kubernetes.md"

// leakingNode is the node of the page: a worker holds sockets that its peer has
// reset, in the namespace of its pod, and an API starves.
func leakingNode() *hosts {
	h := apitest.New()
	h.Reading.Level = reading.Critical
	*h.Reading.Sample.UnderPressure = true
	pod := func(pid int, name, container, command string) reading.Owner {
		id := map[string]string{"worker": "3f2a9c41d0b7", "api": "b81e05d77a2c"}[container]
		return reading.Owner{
			Key: "container/" + id, Name: "shop/" + name + " (" + container + ")", Kind: reading.KindContainer,
			Cgroup:    "/kubepods.slice/cri-containerd-" + id + ".scope",
			Container: &reading.Container{ID: id, Runtime: "containerd", Name: container},
			Pod:       &reading.Pod{Namespace: "shop", Name: name, UID: "0c3c1c9e-" + id}, UID: new(uint32(1000)), Command: command, HolderCount: 1,
			Holders: []reading.Holder{{PID: pid, StartTime: 9000, Command: command}},
		}
	}
	worker, api1 := pod(4120, "queue-worker-5c9d8", "worker", "queue-worker"), pod(3377, "api-7d9f8b", "api", "api")
	worker.GrowthPerMinute = new(int64(2 << 20))
	worker.Verdict = &reading.Verdict{Kind: reading.Leak, Reasons: []string{"815 sockets whose peer has reset them are still open", "its queues have not moved for 5 min"}}
	s := reading.Socket{
		Netns: apitest.PodNetns, Local: netip.MustParseAddrPort("10.244.1.7:40000"), Remote: netip.MustParseAddrPort("10.96.12.4:5672"),
		UID: 1000, Mem: reading.SkMem{RmemAlloc: 384 << 10, Rcvbuf: 6 << 20}, Rqueue: 360000, State: reading.Close,
		Class: reading.Hidden, Evidence: reading.FD, Holder: &worker.Holders[0], Inode: 880001,
	}
	h.Add(worker, 815, s)
	s.State, s.Class, s.Mem = reading.Established, reading.Owned, reading.SkMem{RmemAlloc: 2304, Rcvbuf: 131072}
	h.Add(worker, 12, s)
	s.Local, s.Holder, s.Mem = netip.MustParseAddrPort("10.244.1.9:8080"), &api1.Holders[0], reading.SkMem{RmemAlloc: 256 << 10, Rcvbuf: 1 << 20}
	h.Add(api1, 36, s)
	h.Reading.Ledger.HiddenEstimate = 815
	h.Balance(100)
	h.Reading.Sample.Alloc, h.Reading.Sample.Inuse = 863, 24
	h.Reading.Sample.Kernel.AbortOnMemory, h.Reading.Sample.Log = new(int64(41)), reading.LogCounts{Readable: true, OutOfMemory: 9}
	state := api.StateOf(&h.Reading)
	state.Since, state.Started = apitest.At.Add(-20*time.Minute), apitest.At.Add(-50*time.Hour)
	state.Watch = &api.Watch{OutOfMemory: apitest.At.Add(-time.Minute), Fill: 90, Owner: "container/3f2a9c41d0b7", Share: 90}
	state.Conduct = &api.Conduct{Rules: []api.RuleState{{
		Name: "container-leak", Severity: "critical", ForEach: "container", Firing: 1, Mode: "observe", ModeWhy: "the daemon's mode is observe",
		About: "a container leaks TCP memory and the host nears its limit",
		Keys: []api.RuleKey{{
			Key: "container/3f2a9c41d0b7", Name: worker.Name, Phase: record.Firing, Since: apitest.At.Add(-18 * time.Minute),
			Step: 4, Steps: 3, Choice: record.ChoseDryRun,
		}},
	}}}
	return &hosts{Host: h, state: state}
}

// TestPage runs what the page shows.
func TestPage(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	m := detector(t, socket)
	node := leakingNode()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); serveUntil(ctx, socket, node) }()
	t.Cleanup(func() { cancel(); <-done })
	for range 200 {
		if m.Turn(apitest.At); m.Conditions[0].Status == "True" {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	ctl := m.Config.Rules[0].Path

	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	want := regexp.MustCompile("(?s)```console\n(.*?)```").ReplaceAllFunc(text, func(block []byte) []byte {
		var out bytes.Buffer
		out.WriteString("```console\n")
		first := true
		for _, m2 := range regexp.MustCompile(`(?m)^\$ (.*)$`).FindAllStringSubmatch(string(block), -1) {
			blocks++
			if !first {
				out.WriteString("\n")
			}
			first = false
			out.WriteString(m2[0] + "\n")
			if strings.HasPrefix(m2[1], "kubectl describe node") {
				out.WriteString("...\nConditions:\n")
				for line := range strings.Lines(m.Describe()) {
					out.WriteString("  " + line)
				}
				out.WriteString("...\n")
				continue
			}
			cmd := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(m2[1], "tcpmemctl", ctl, 1)) //nolint:gosec // the page's own
			answer, err := cmd.Output()
			if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() != 1 || !strings.HasPrefix(m2[1], "tcpmemctl health")) { //nolint:errorlint // Output's own
				t.Errorf("%s: %v", m2[1], err)
			}
			out.Write(answer)
		}
		out.WriteString("```")
		return out.Bytes()
	})
	if blocks < 5 {
		t.Errorf("the page shows %d commands", blocks)
	}
	if *update {
		if err := os.WriteFile(page, want, 0o644); err != nil { //nolint:gosec // a page
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(string(want), string(text)); diff != "" {
		t.Errorf("run with -update: (-program +page)\n%s", diff)
	}
}

// TestSamples: the YAML is what its reader expects, and speaks of our condition.
func TestSamples(t *testing.T) {
	var rule struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   struct{ Name string }
		Spec       struct {
			DryRun          bool   `yaml:"dryRun"`
			EnforcementMode string `yaml:"enforcementMode"`
			Conditions      []struct {
				Type           string
				RequiredStatus string `yaml:"requiredStatus"`
			}
			Taint        struct{ Key, Effect string }
			NodeSelector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			} `yaml:"nodeSelector"`
		}
	}
	decode(t, "taints/node-readiness-rule.yaml", &rule)
	s := rule.Spec
	if rule.Kind != "NodeReadinessRule" || !s.DryRun || s.EnforcementMode != "continuous" || s.Taint.Effect != "NoSchedule" || len(s.NodeSelector.MatchLabels) == 0 ||
		len(s.Conditions) != 1 || s.Conditions[0].RequiredStatus != "False" {
		t.Errorf("the rule is %+v", rule)
	}
	if want := detector(t, "none").Config.Conditions[0].Type; s.Conditions[0].Type != want {
		t.Errorf("the rule is about %s, the detector's condition is %s", s.Conditions[0].Type, want)
	}
	policy, err := os.ReadFile("taints/descheduler-policy.yaml")
	if err != nil || !strings.Contains(string(policy), "- "+s.Taint.Key+"\n") {
		t.Errorf("the policy does not know the taint %s: %v", s.Taint.Key, err)
	}
	var whole map[string]any
	decode(t, "taints/descheduler-policy.yaml", &whole)

	var patch struct {
		Spec struct {
			Template struct {
				Spec struct {
					Containers []struct {
						Name         string
						Command      []string
						Resources    map[string]map[string]string
						VolumeMounts []struct {
							Name      string
							MountPath string `yaml:"mountPath"`
							ReadOnly  bool   `yaml:"readOnly"`
						} `yaml:"volumeMounts"`
					}
					Volumes []struct {
						Name      string
						ConfigMap map[string]string `yaml:"configMap"`
						HostPath  map[string]string `yaml:"hostPath"`
					}
				}
			}
		}
	}
	decode(t, "node-problem-detector/daemonset-patch.yaml", &patch)
	pod := patch.Spec.Template.Spec
	volumes := make(map[string]bool)
	for _, v := range pod.Volumes {
		volumes[v.Name] = true
	}
	at := make(map[string]bool)
	for _, mount := range pod.Containers[0].VolumeMounts {
		at[mount.MountPath] = true
		if !volumes[mount.Name] || !mount.ReadOnly {
			t.Errorf("mount %+v", mount)
		}
	}
	for _, need := range []string{"/usr/bin/tcpmemctl", filepath.Dir(api.SystemSocket)} {
		if !at[need] {
			t.Errorf("nothing is mounted at %s", need)
		}
	}
}

func decode(t *testing.T, path string, into any) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dec := yaml.NewDecoder(f)
	dec.SetStrict(true)
	if err := dec.Decode(into); err != nil {
		t.Errorf("%s: %v", path, err)
	}
}
