package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// maxPodNames bounds each of the two tables, of which those that are there are
// kept before those that went; a node runs some hundred pods.
const maxPodNames = 20_000

// mtimeGrain is how coarse a directory's mtime may be: two changes within it
// look like one, so a directory that changed so lately is read again.
const mtimeGrain = 2 * time.Second

// Pods knows pods and containers by the names that kubelet gives to their
// logs: directories pods/NAMESPACE_NAME_UID and links
// containers/POD_NAMESPACE_CONTAINER-ID.log (kubelet's
// kuberuntime/helpers.go and legacy.go). A host without kubelet has neither.
// Uids and ids are never given again, so a name outlives its log: the orphans of
// a pod that was deleted are still the pod's. Names are data: nothing may be
// decided by them. Several goroutines may use it.
type Pods struct {
	root string

	mu         sync.Mutex
	pods       map[string]reading.Pod // by uid
	containers map[string]string      // name by id, or by as much of it as a link has
	podsDir    dirState
	linksDir   dirState
}

// dirState is what a directory looked like when it was read.
type dirState struct {
	mtime  time.Time
	readAt time.Time
	read   bool
}

// NewPods returns a reader of the logs below root, normally /var/log.
func NewPods(root string) *Pods { return &Pods{root: root} }

// Refresh reads the directories that changed since the last time. That one
// does not exist is no error.
func (p *Pods) Refresh(now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(
		refreshDir(filepath.Join(p.root, "pods"), &p.podsDir, &p.pods, now, podOfDir),
		refreshDir(filepath.Join(p.root, "containers"), &p.linksDir, &p.containers, now, containerOfLink),
	)
}

// Name fills in the names of the label's pod and container, where they are known.
func (p *Pods) Name(l *Label) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.Pod != nil {
		if pod, ok := p.pods[l.Pod.UID]; ok {
			l.Pod = &pod
		}
	}
	if l.Container != nil {
		named := *l.Container
		named.Name = cmp.Or(p.containers[named.ID], p.cut(named.ID), named.Name)
		l.Container = &named
	}
}

// cut looks for a container of whose id a link has only the beginning.
func (p *Pods) cut(id string) string {
	for n := len(id) - 1; n >= minCutID; n-- {
		if name := p.containers[id[:n]]; name != "" {
			return name
		}
	}
	return ""
}

// refreshDir adds the names in a directory to the table.
func refreshDir[V any](dir string, state *dirState, table *map[string]V, now time.Time, parse func(string) (key string, v V, ok bool)) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		*state = dirState{}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read pod names: %w", err)
	}
	settled := state.readAt.Sub(state.mtime) > mtimeGrain
	if state.read && settled && info.ModTime().Equal(state.mtime) {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("read pod names: %w", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(maxPodNames)
	if err != nil && len(names) == 0 && err != io.EOF {
		return fmt.Errorf("read pod names: %w", err)
	}
	fresh := make(map[string]V, len(names))
	for _, name := range names {
		if key, v, ok := parse(name); ok {
			fresh[key] = v
		}
	}
	if len(fresh) < maxPodNames/2 && len(*table) < maxPodNames {
		for key, v := range *table {
			if _, there := fresh[key]; !there && len(fresh) < maxPodNames {
				fresh[key] = v
			}
		}
	}
	*table = fresh
	*state = dirState{mtime: info.ModTime(), readAt: now, read: true}
	return nil
}

// podOfDir reads NAMESPACE_NAME_UID. None of the three may hold an underscore.
func podOfDir(dir string) (uid string, pod reading.Pod, ok bool) {
	namespace, rest, ok1 := strings.Cut(dir, "_")
	name, uid, ok2 := strings.Cut(rest, "_")
	if !ok1 || !ok2 || namespace == "" || name == "" || !isPodUID(uid) {
		return "", reading.Pod{}, false
	}
	return uid, reading.Pod{Namespace: namespace, Name: name, UID: uid}, true
}

const (
	// maxLink is where kubelet cuts POD_NAMESPACE_CONTAINER-ID.log, before
	// ".log": a file's name has no more bytes (ext4MaxFileNameLen).
	maxLink = 255
	// minCutID is how much of an id tells it from all others of a node.
	minCutID = 12
	idLen    = 64
)

// containerOfLink reads POD_NAMESPACE_CONTAINER-ID.log. Where the names are
// long, the end of the id is missing.
func containerOfLink(link string) (id, name string, ok bool) {
	stem, ok := strings.CutSuffix(link, ".log")
	if !ok {
		return "", "", false
	}
	parts := strings.Split(stem, "_")
	if len(parts) != 3 {
		return "", "", false
	}
	dash := strings.LastIndexByte(parts[2], '-')
	if dash <= 0 {
		return "", "", false
	}
	name, id = parts[2][:dash], parts[2][dash+1:]
	whole := isContainerID(id)
	cut := len(link) == maxLink && len(id) >= minCutID && len(id) < idLen && strings.Trim(id, hexDigits) == ""
	return id, name, whole || cut
}
