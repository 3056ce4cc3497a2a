// Package daemonset has the example of tcpmemd as a DaemonSet, and what its
// tests need: a strict reader of it, and the container that a runtime would make
// of it, to be run without a cluster.
package daemonset

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v2"
)

//go:embed daemonset.yaml
var manifest string

// Observing is the example as it is shipped; Acting has its "#act " taken off.
func Observing() string { return manifest }

// Acting is the example with the lines that let it act.
func Acting() string { return strings.ReplaceAll(manifest, "\n#act ", "\n") }

//go:embed Containerfile
var containerfile string

var copied = regexp.MustCompile(`(?m)^COPY --from=unpack /out\S+ (\S+)$`)

// Files are the paths that the image has of the package.
func Files() (paths []string) {
	for _, m := range copied.FindAllStringSubmatch(containerfile, -1) {
		paths = append(paths, m[1])
	}
	return paths
}

// Manifest is what the example holds. Read refuses a field that is not below, so
// that nothing stands in the example that the tests do not know.
type Manifest struct {
	Config ConfigMap
	Daemon DaemonSet
}

// Meta is an object's metadata.
type Meta struct {
	Name      string            `yaml:"name"`
	Namespace string            `yaml:"namespace"`
	Labels    map[string]string `yaml:"labels"`
}

// ConfigMap has the daemon's files by their keys.
type ConfigMap struct {
	APIVersion string            `yaml:"apiVersion"`
	Kind       string            `yaml:"kind"`
	Metadata   Meta              `yaml:"metadata"`
	Data       map[string]string `yaml:"data"`
}

// DaemonSet runs the pod on each node.
type DaemonSet struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   Meta   `yaml:"metadata"`
	Spec       struct {
		Selector struct {
			MatchLabels map[string]string `yaml:"matchLabels"`
		} `yaml:"selector"`
		UpdateStrategy struct {
			Type          string `yaml:"type"`
			RollingUpdate struct {
				MaxUnavailable string `yaml:"maxUnavailable"`
			} `yaml:"rollingUpdate"`
		} `yaml:"updateStrategy"`
		Template struct {
			Metadata struct {
				Labels map[string]string `yaml:"labels"`
			} `yaml:"metadata"`
			Spec PodSpec `yaml:"spec"`
		} `yaml:"template"`
	} `yaml:"spec"`
}

// PodSpec is the pod.
type PodSpec struct {
	HostNetwork                   bool                `yaml:"hostNetwork"`
	HostPID                       bool                `yaml:"hostPID"`
	AutomountServiceAccountToken  *bool               `yaml:"automountServiceAccountToken"`
	EnableServiceLinks            *bool               `yaml:"enableServiceLinks"`
	PriorityClassName             string              `yaml:"priorityClassName"`
	Tolerations                   []map[string]string `yaml:"tolerations"`
	NodeSelector                  map[string]string   `yaml:"nodeSelector"`
	TerminationGracePeriodSeconds int                 `yaml:"terminationGracePeriodSeconds"`
	Containers                    []Container         `yaml:"containers"`
	Volumes                       []Volume            `yaml:"volumes"`
}

// Container is the pod's only one.
type Container struct {
	Name            string          `yaml:"name"`
	Image           string          `yaml:"image"`
	Command         []string        `yaml:"command"`
	Env             []Variable      `yaml:"env"`
	SecurityContext SecurityContext `yaml:"securityContext"`
	LivenessProbe   struct {
		Exec struct {
			Command []string `yaml:"command"`
		} `yaml:"exec"`
		InitialDelaySeconds int `yaml:"initialDelaySeconds"`
		PeriodSeconds       int `yaml:"periodSeconds"`
		TimeoutSeconds      int `yaml:"timeoutSeconds"`
		FailureThreshold    int `yaml:"failureThreshold"`
	} `yaml:"livenessProbe"`
	Resources struct {
		Requests map[string]string `yaml:"requests"`
		Limits   map[string]string `yaml:"limits"`
	} `yaml:"resources"`
	VolumeMounts []VolumeMount `yaml:"volumeMounts"`
}

// Variable is one of the environment.
type Variable struct {
	Name  string `yaml:"name"`
	Value string `yaml:"value"`
}

// SecurityContext says what the container may.
type SecurityContext struct {
	Privileged             bool  `yaml:"privileged"`
	ReadOnlyRootFilesystem bool  `yaml:"readOnlyRootFilesystem"`
	RunAsUser              *int  `yaml:"runAsUser"`
	RunAsGroup             *int  `yaml:"runAsGroup"`
	Capabilities           Caps  `yaml:"capabilities"`
	SeccompProfile         Typed `yaml:"seccompProfile"`
	AppArmorProfile        Typed `yaml:"appArmorProfile"`
	SELinuxOptions         Typed `yaml:"seLinuxOptions"`
}

// Caps are capabilities without CAP_ before them.
type Caps struct {
	Drop []string `yaml:"drop"`
	Add  []string `yaml:"add"`
}

// Typed has a type and, here, nothing else.
type Typed struct {
	Type string `yaml:"type"`
}

// VolumeMount puts a volume into the container.
type VolumeMount struct {
	Name      string `yaml:"name"`
	MountPath string `yaml:"mountPath"`
	ReadOnly  bool   `yaml:"readOnly"`
}

// Volume is a folder of the node, or the ConfigMap.
type Volume struct {
	Name      string `yaml:"name"`
	ConfigMap *struct {
		Name  string `yaml:"name"`
		Items []Item `yaml:"items"`
	} `yaml:"configMap"`
	HostPath *struct {
		Path string `yaml:"path"`
		Type string `yaml:"type"`
	} `yaml:"hostPath"`
}

// Item is a key of a ConfigMap and the file that it becomes.
type Item struct {
	Key  string `yaml:"key"`
	Path string `yaml:"path"`
}

// Read reads a ConfigMap and a DaemonSet of one container, and refuses all else.
func Read(text string) (*Manifest, error) {
	d := yaml.NewDecoder(strings.NewReader(text))
	d.SetStrict(true)
	var m Manifest
	if err := d.Decode(&m.Config); err != nil {
		return nil, fmt.Errorf("read ConfigMap: %w", err)
	}
	if err := d.Decode(&m.Daemon); err != nil {
		return nil, fmt.Errorf("read DaemonSet: %w", err)
	}
	var more any
	switch err := d.Decode(&more); {
	case err == nil:
		return nil, errors.New("read manifest: a third document")
	case !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if n := len(m.Daemon.Spec.Template.Spec.Containers); n != 1 {
		return nil, fmt.Errorf("read DaemonSet: %d containers, want 1", n)
	}
	return &m, nil
}

// Pod is the pod of the DaemonSet.
func (m *Manifest) Pod() *PodSpec { return &m.Daemon.Spec.Template.Spec }

// Container is the pod's container.
func (m *Manifest) Container() *Container { return &m.Pod().Containers[0] }
