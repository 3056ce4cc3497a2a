package daemonset

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/ability"
	"github.com/tcpmemd/tcpmemd/daemon/config"
	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
)

func read(t *testing.T, text string) *Manifest {
	t.Helper()
	m, err := Read(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestRights: no right is in the example that nobody asked for, and each has its
// reason right above it.
func TestRights(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		caps       []string
	}{
		{"observing", Observing(), []string{"SYS_PTRACE", "DAC_READ_SEARCH", "SYS_ADMIN"}},
		{"acting", Acting(), []string{"SYS_PTRACE", "DAC_READ_SEARCH", "SYS_ADMIN", "KILL"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := read(t, tt.text)
			pod, c := m.Pod(), m.Container()
			root := 0
			want := SecurityContext{
				ReadOnlyRootFilesystem: true, RunAsUser: &root, RunAsGroup: &root,
				Capabilities:    Caps{Drop: []string{"ALL"}, Add: tt.caps},
				SeccompProfile:  Typed{"RuntimeDefault"},
				AppArmorProfile: Typed{"Unconfined"}, SELinuxOptions: Typed{"spc_t"},
			}
			if diff := cmp.Diff(want, c.SecurityContext); diff != "" {
				t.Errorf("security context (-want +got):\n%s", diff)
			}
			if no := pod.AutomountServiceAccountToken; no == nil || *no || !pod.HostNetwork || !pod.HostPID {
				t.Errorf("pod: %+v", pod)
			}
			for _, vm := range c.VolumeMounts {
				if writes := vm.Name == "run" || vm.Name == "state"; vm.ReadOnly == writes {
					t.Errorf("mount %s: read-only %t", vm.Name, vm.ReadOnly)
				}
			}
			for i, line := range strings.Split(tt.text, "\n") {
				right := regexp.MustCompile(`^ +(- (SYS_PTRACE|DAC_READ_SEARCH|SYS_ADMIN|KILL)|hostNetwork: .*|hostPID: .*|- name: (run|state|cgroup|pods|dbus))$`)
				above := strings.Split(tt.text, "\n")[max(0, i-1)]
				if right.MatchString(line) && !strings.HasPrefix(strings.TrimSpace(above), "#") && !volumes(tt.text, i) {
					t.Errorf("line %d: %s has no reason above it", i+1, line)
				}
			}
		})
	}
}

// volumes: the line is of the list of volumes, whose reasons are at the mounts.
func volumes(text string, line int) bool {
	return strings.Contains(strings.Join(strings.Split(text, "\n")[:line], "\n"), "\n      volumes:\n")
}

// TestConsistent: what Kubernetes would refuse, or quietly not do.
func TestConsistent(t *testing.T) {
	m := read(t, Observing())
	ds, c := &m.Daemon, m.Container()
	if diff := cmp.Diff(ds.Spec.Selector.MatchLabels, ds.Spec.Template.Metadata.Labels); diff != "" {
		t.Errorf("the selector does not select the pod:\n%s", diff)
	}
	if m.Config.Metadata.Namespace != ds.Metadata.Namespace {
		t.Error("ConfigMap and DaemonSet are in different namespaces")
	}
	var named, used []string
	for _, v := range m.Pod().Volumes {
		named = append(named, v.Name)
	}
	for _, vm := range c.VolumeMounts {
		used = append(used, vm.Name)
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(named)), slices.Sorted(slices.Values(used))); diff != "" {
		t.Errorf("volumes and mounts (-volumes +mounts):\n%s", diff)
	}
	p := c.LivenessProbe
	if p.TimeoutSeconds >= p.PeriodSeconds || p.FailureThreshold*p.PeriodSeconds < 120 {
		t.Errorf("liveness: %+v", p)
	}
	if !slices.Equal(p.Exec.Command, []string{"/usr/bin/tcpmemctl", "status"}) {
		t.Errorf("liveness asks %q", p.Exec.Command)
	}
	if c.Resources.Limits["cpu"] != "" || c.Resources.Limits["memory"] == "" {
		t.Errorf("limits: %v", c.Resources.Limits)
	}
}

// TestRefusesWhatItDoesNotKnow: a field that the tests do not understand must
// not pass them.
func TestRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, change := range [][2]string{
		{"hostPID: true", "hostPID: true\n      hostIPC: true"},
		{"readOnlyRootFilesystem: true", "readOnlyRootFilesystem: true\n            procMount: Unmasked"},
		{"type: spc_t", "type: spc_t\n              level: s0"},
		{"kind: DaemonSet", "kind: DaemonSet\n---\nkind: Secret"},
		{"      containers:\n", "      initContainers: []\n      containers:\n"},
	} {
		if _, err := Read(strings.Replace(Observing(), change[0], change[1], 1)); err == nil {
			t.Errorf("taken: %q", change[1])
		}
	}
}

// TestConfig: the daemon takes the ConfigMap's files, laid out as kubelet does,
// and with the "#act " off they enforce exactly one rule.
func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		mode       policy.Mode
		enforcing  []string
	}{
		{"observing", Observing(), policy.Observe, nil},
		{"acting", Acting(), policy.Enforce, []string{"container-leak"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			if err := read(t, tt.text).WriteConfig(filepath.Join(root, "etc/tcpmemd")); err != nil {
				t.Fatal(err)
			}
			loaded, err := config.Load(config.Options{Root: root})
			if err != nil {
				t.Fatal(err)
			}
			if loaded.Config.Mode != tt.mode {
				t.Errorf("mode %s, want %s", loaded.Config.Mode, tt.mode)
			}
			can := ability.New(t.Context(), "test", nil, nil)
			p, err := config.LoadPolicy(config.Options{Root: root, Actions: can.List(), CheckStep: can.CheckStep})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(p.Files, func(f string) bool { return strings.HasSuffix(f, "policy.d/50-site.toml") }) {
				t.Errorf("the ConfigMap's rules are not among %q", p.Files)
			}
			var enforcing []string
			for _, r := range p.Rules {
				if r.Mode == policy.Enforce {
					enforcing = append(enforcing, r.Name)
					var steps []string
					for _, s := range r.Steps {
						steps = append(steps, s.Action)
					}
					if diff := cmp.Diff([]string{"notify", "signal-process"}, steps); diff != "" {
						t.Errorf("steps of %s (-want +got):\n%s", r.Name, diff)
					}
				}
			}
			if diff := cmp.Diff(tt.enforcing, enforcing); diff != "" {
				t.Errorf("enforcing rules (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSed: what the example and its page say to run gives what is tested here.
func TestSed(t *testing.T) {
	const line = "sed 's/^#act //' daemonset.yaml | kubectl apply -f -"
	page, err := os.ReadFile("../../../../docs/kubernetes-daemonset.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "\n"+line+"\n") || !strings.Contains(Observing(), "#   "+line+"\n") {
		t.Error("the example and its page do not say the same")
	}
	edited, err := exec.CommandContext(t.Context(), "sed", "s/^#act //", "daemonset.yaml").Output()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Acting(), string(edited)); diff != "" {
		t.Errorf("sed (-Acting +sed):\n%s", diff)
	}
	if n := strings.Count(Observing(), "\n#act "); n != 13 {
		t.Errorf("%d lines are marked", n)
	}
}

// TestContainerfile: what it takes out of the package is in it, at that path.
func TestContainerfile(t *testing.T) {
	text, err := os.ReadFile("Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile("../../../../nfpm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	copies := regexp.MustCompile(`(?m)^COPY --from=unpack /out(\S+) (\S+)$`).FindAllSubmatch(text, -1)
	if len(copies) != 5 {
		t.Errorf("%d files are copied, want 5", len(copies))
	}
	for _, c := range copies {
		if string(c[1]) != string(c[2]) || !strings.Contains(string(list), "dst: "+string(c[1])+"\n") {
			t.Errorf("%s to %s: not so in the package", c[1], c[2])
		}
	}
	command := read(t, Observing()).Container().Command[0]
	if !strings.Contains(string(text), `ENTRYPOINT ["`+command+`"]`) {
		t.Errorf("the image does not start %s", command)
	}
}
