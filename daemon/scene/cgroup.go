package scene

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Cgroup is a directory in the v2 hierarchy, made for a scene.
type Cgroup struct {
	Path string // of the directory
	Name string // path within the hierarchy, as /proc/PID/cgroup shows it
	ID   uint64 // as sock_diag reports it: the inode number of the directory
	root string // the outermost directory that was made for it
}

// MakeCgroup makes a cgroup called name below the caller's own. The name may
// have several parts, and any bytes but NUL and, in cgroup v2, newline
// (cgroup_mkdir answers EINVAL). Remove it with Remove.
func MakeCgroup(name string) (*Cgroup, error) {
	mount, own, err := ownCgroup()
	if err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	for _, path := range abandoned(filepath.Join(mount, own)) {
		_ = removeTree(context.Background(), path) // what cannot be cleared up is not in the way
	}
	litter, err := litterName()
	if err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	root := filepath.Join(mount, own, litter)
	g, err := makeCgroup(mount, root, filepath.Join(own, litter, name))
	if err != nil {
		_ = removeTree(context.Background(), root)
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	return g, nil
}

// Sub makes a cgroup within g. Removing g removes it.
func (g *Cgroup) Sub(name string) (*Cgroup, error) {
	mount := strings.TrimSuffix(g.Path, g.Name)
	sub, err := makeCgroup(mount, filepath.Join(g.Path, name), filepath.Join(g.Name, name))
	if err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	return sub, nil
}

func makeCgroup(mount, root, name string) (*Cgroup, error) {
	g := &Cgroup{Path: filepath.Join(mount, name), Name: filepath.Join("/", name), root: root}
	if err := os.MkdirAll(g.Path, 0o755); err != nil {
		return nil, err
	}
	var err error
	g.ID, err = inode(g.Path)
	return g, err
}

// Remove ends what still runs in the cgroup and removes it with all below. Its
// id lives on in the sockets that were made in it. Removing it again is no error.
func (g *Cgroup) Remove() error {
	return removeTree(context.Background(), g.root)
}

// Procs gives the processes in this cgroup itself.
func (g *Cgroup) Procs() ([]int, error) { return procsOf(g.Path) }

func procsOf(dir string) ([]int, error) {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var pids []int
	for field := range strings.FieldsSeq(string(data)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("read %s/cgroup.procs: %w", dir, err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// removeTree removes the cgroups from the innermost. Whoever is in one was
// started by a scene: nothing else knows its name.
func removeTree(ctx context.Context, root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	for _, dir := range slices.Backward(dirs) {
		err := poll(ctx, "an empty cgroup", func() (bool, error) {
			err := os.Remove(dir)
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				return true, nil
			}
			if !errors.Is(err, unix.EBUSY) {
				return false, err
			}
			pids, err := procsOf(dir)
			for _, pid := range pids {
				if pid > 0 && pid != os.Getpid() { // 0: of another pid namespace
					unix.Kill(pid, unix.SIGKILL)
				}
			}
			return false, err
		})
		if err != nil {
			return fmt.Errorf("remove cgroup: %w", err)
		}
	}
	return nil
}

// ownCgroup gives the mount point of the v2 hierarchy and the caller's place
// in it. Beside v1 controllers it is often at /sys/fs/cgroup/unified.
func ownCgroup() (mount, own string, err error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", "", err
	}
	if mount, err = cgroup2Mount(info); err != nil {
		return "", "", err
	}
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(data)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return mount, strings.TrimSuffix(path, "\n"), nil
		}
	}
	return "", "", errors.New("read /proc/self/cgroup: no line of the v2 hierarchy")
}

// cgroup2Mount finds the first mount of type cgroup2 (proc_pid_mountinfo(5):
// the type follows a field that is a lone "-").
func cgroup2Mount(mountinfo []byte) (string, error) {
	lines := bufio.NewScanner(bytes.NewReader(mountinfo))
	for lines.Scan() {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if strings.HasPrefix(after, "cgroup2 ") && len(fields) > 4 {
			return unescapeMount.Replace(fields[4]), nil
		}
	}
	return "", errors.New("read /proc/self/mountinfo: no cgroup2 mount")
}

// unescapeMount undoes mangle() in fs/proc_namespace.c.
var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
