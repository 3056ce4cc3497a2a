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

// maxPodNames bounds each of the two tables; a node runs some hundred pods.
const maxPodNames = 20_000

// mtimeGrain is how coarse a directory's mtime may be: two changes within it
// look like one, so a directory that changed so lately is read again.
const mtimeGrain = 2 * time.Second

// Pods knows pods and containers by the names that kubelet gives to their
// logs: directories pods/NAMESPACE_NAME_UID and links
// containers/POD_NAMESPACE_CONTAINER-ID.log (kubelet's
// kuberuntime/helpers.go and legacy.go). A host without kubelet has neither.
// Names are data: nothing may be decided by them. Several goroutines may use it.
type Pods struct {
	root string

	mu         sync.Mutex
	pods       map[string]reading.Pod // by uid
	containers map[string]string      // name by id
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
		named.Name = cmp.Or(p.containers[named.ID], named.Name)
		l.Container = &named
	}
}

// refreshDir builds the table anew from the names in a directory.
func refreshDir[V any](dir string, state *dirState, table *map[string]V, now time.Time, parse func(string) (key string, v V, ok bool)) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		*table, *state = nil, dirState{}
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

// containerOfLink reads POD_NAMESPACE_CONTAINER-ID.log.
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
	if dash <= 0 || !isContainerID(parts[2][dash+1:]) {
		return "", "", false
	}
	return parts[2][dash+1:], parts[2][:dash], true
}
