package daemonset

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Bundle is an OCI runtime configuration (config.json of the runtime
// specification), as far as the example needs one.
type Bundle map[string]any

// BundleOptions say where a bundle is run.
type BundleOptions struct {
	Rootfs      string // the image's files
	CgroupsPath string // the container's control group
	ConfigDir   string // where the ConfigMap's files are, see WriteConfig
	// Seccomp is what RuntimeDefault comes to, nil for none.
	Seccomp any
}

// Bundle is what a runtime makes of the pod: the container that containerd or
// CRI-O would run on a node with cgroup v2, with a cgroup namespace of its own
// since it is not privileged, and with its devices and its own /sys.
func (m *Manifest) Bundle(o BundleOptions) (Bundle, error) {
	c, pod := m.Container(), m.Pod()
	sec := &c.SecurityContext
	if !pod.HostNetwork || !pod.HostPID || sec.Privileged || len(sec.Capabilities.Drop) != 1 || sec.Capabilities.Drop[0] != "ALL" {
		return nil, errors.New("make bundle: not the pod that this knows to run")
	}
	caps := []string{}
	for _, name := range sec.Capabilities.Add {
		caps = append(caps, "CAP_"+name)
	}
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, v := range c.Env {
		env = append(env, v.Name+"="+v.Value)
	}
	mounts, err := m.mounts(o)
	if err != nil {
		return nil, err
	}
	linux := map[string]any{
		// Network and PID namespace are the node's.
		"namespaces":  []any{typed("mount"), typed("ipc"), typed("cgroup")},
		"cgroupsPath": o.CgroupsPath,
		"resources": map[string]any{
			// All but what each container gets: no /dev/kmsg.
			"devices": []any{map[string]any{"allow": false, "access": "rwm"}},
		},
		"maskedPaths":   []string{"/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/sys/firmware"},
		"readonlyPaths": []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
	}
	if o.Seccomp != nil {
		linux["seccomp"] = o.Seccomp
	}
	return Bundle{
		"ociVersion": "1.0.2",
		"process": map[string]any{
			"user": map[string]any{"uid": *sec.RunAsUser, "gid": *sec.RunAsGroup},
			"args": c.Command, "env": env, "cwd": "/",
			"capabilities": map[string]any{"bounding": caps, "effective": caps, "permitted": caps},
		},
		"root":   map[string]any{"path": o.Rootfs, "readonly": sec.ReadOnlyRootFilesystem},
		"mounts": mounts,
		"linux":  linux,
	}, nil
}

// mounts are those that each container has, less what the pod's replace.
func (m *Manifest) mounts(o BundleOptions) ([]any, error) {
	all := []any{
		mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
		mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
		mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
		mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
	}
	own := mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro")
	volumes := map[string]Volume{}
	for _, v := range m.Pod().Volumes {
		volumes[v.Name] = v
	}
	var ours []any
	for _, vm := range m.Container().VolumeMounts {
		v, ok := volumes[vm.Name]
		source := o.ConfigDir
		switch {
		case !ok:
			return nil, fmt.Errorf("make bundle: mount of unknown volume %q", vm.Name)
		case v.HostPath != nil:
			source = v.HostPath.Path
		case v.ConfigMap == nil:
			return nil, fmt.Errorf("make bundle: volume %q is neither a folder nor a ConfigMap", vm.Name)
		}
		access := "rw"
		if vm.ReadOnly {
			access = "ro"
		}
		if vm.MountPath == "/sys/fs/cgroup" {
			own = nil
		}
		ours = append(ours, mount(vm.MountPath, "bind", source, "rbind", "rprivate", access))
	}
	if own != nil {
		all = append(all, own)
	}
	return append(all, ours...), nil
}

// WriteConfig writes the ConfigMap's files below dir as kubelet does: each name
// at the top is a link into ..data, which is a link, too, so that a change comes
// at once (AtomicWriter of pkg/volume/util).
func (m *Manifest) WriteConfig(dir string) error {
	const stamp = "..2026_11_27_09_00_00.1"
	errs := []error{os.MkdirAll(filepath.Join(dir, stamp), 0o755), os.Symlink(stamp, filepath.Join(dir, "..data"))}
	linked := map[string]bool{}
	for _, v := range m.Pod().Volumes {
		if v.ConfigMap == nil {
			continue
		}
		for _, item := range v.ConfigMap.Items {
			text, ok := m.Config.Data[item.Key]
			if !ok || v.ConfigMap.Name != m.Config.Metadata.Name {
				return fmt.Errorf("write config: no key %q in %q", item.Key, v.ConfigMap.Name)
			}
			path := filepath.Join(dir, stamp, item.Path)
			errs = append(errs, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
			if top, _, _ := strings.Cut(item.Path, "/"); !linked[top] {
				linked[top] = true
				errs = append(errs, os.Symlink(filepath.Join("..data", top), filepath.Join(dir, top)))
			}
		}
	}
	return errors.Join(errs...)
}

func typed(name string) map[string]any { return map[string]any{"type": name} }

func mount(destination, kind, source string, options ...string) map[string]any {
	return map[string]any{"destination": destination, "type": kind, "source": source, "options": options}
}
