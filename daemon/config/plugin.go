package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
)

// Plugin is a table [plugin.NAME]: an action of someone else's, or what a
// built-in one is given. There is no discovery: only what is named here runs.
type Plugin struct {
	Path       string        // absolute; "" for a built-in action
	SHA256     string        // 64 hexadecimal digits in lower case, "" where it is not pinned
	Timeout    time.Duration // of one call, 1s to 10m; 0 for the runner's own
	Settings   []byte        // JSON object that each step starts from, nil for none
	Credential string        // name in $CREDENTIALS_DIRECTORY, "" for none
}

// builtIns are the actions that come with tcpmemd, by what they touch.
var builtIns = []policy.ActionInfo{
	{Name: "notify", Touches: policy.TouchesNothing},
	{Name: "restart-unit", Touches: policy.TouchesOwner},
	{Name: "signal-process", Touches: policy.TouchesOwner},
	{Name: "destroy-sockets", Touches: policy.TouchesOwner},
	{Name: "raise-tcp-mem", Touches: policy.TouchesHost},
	{Name: "run-command", Touches: policy.TouchesHost},
}

var (
	pluginName     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$`)
	sha256Digits   = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)
	credentialName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$`)
)

// BuiltInActions lists the actions that come with tcpmemd.
func BuiltInActions() []policy.ActionInfo { return slices.Clone(builtIns) }

func builtInNames() []string {
	names := make([]string, len(builtIns))
	for i, a := range builtIns {
		names[i] = a.Name
	}
	return names
}

// PluginKeys lists the keys of a plugin's table.
func PluginKeys() []string {
	return []string{"plugin.NAME.path", "plugin.NAME.sha256", "plugin.NAME.timeout", "plugin.NAME.settings", "plugin.NAME.credential"}
}

func isPlugin(path toml.Key) bool { return len(path) == 2 && path[0] == "plugin" }

// pluginSetting gives the setting for plugin.NAME.KEY.
func pluginSetting(path toml.Key) (setting, bool) {
	if len(path) != 3 || path[0] != "plugin" {
		return setting{}, false
	}
	name, key := path[1], path.String()
	switch path[2] {
	case "path":
		return atPlugin(key, name, func(p *Plugin) *string { return &p.Path }, parsePath), true
	case "sha256":
		return atPlugin(key, name, func(p *Plugin) *string { return &p.SHA256 }, parseSHA256), true
	case "timeout":
		return atPlugin(key, name, func(p *Plugin) *time.Duration { return &p.Timeout }, between(time.Second, 10*time.Minute)), true
	case "settings":
		return atPlugin(key, name, func(p *Plugin) *[]byte { return &p.Settings }, parseSettings), true
	case "credential":
		return atPlugin(key, name, func(p *Plugin) *string { return &p.Credential }, parseCredential), true
	}
	return setting{}, false
}

func atPlugin[T any](key, name string, field func(*Plugin) *T, parse func(any) (T, error)) setting {
	return setting{
		key: key,
		set: func(c *Config, v any) error {
			if !pluginName.MatchString(name) {
				return errors.New("a plugin's name has letters a-z, digits and dashes, 48 at most")
			}
			parsed, err := parse(v)
			if err != nil {
				return err
			}
			p := c.Plugins[name]
			*field(&p) = parsed
			if c.Plugins == nil {
				c.Plugins = map[string]Plugin{}
			}
			c.Plugins[name] = p
			return nil
		},
		get: func(c Config) any { p := c.Plugins[name]; return *field(&p) },
	}
}

// checkPlugin holds a plugin's keys against each other.
func (l *Loaded) checkPlugin(file, name string) error {
	builtIn := slices.ContainsFunc(builtIns, func(a policy.ActionInfo) bool { return a.Name == name })
	p := l.Config.Plugins[name]
	switch {
	case builtIn && p.Path != "":
		return l.failPlugin(file, name, ".path", fmt.Errorf("plugin.%s.path: %s is built in; give the plugin another name", name, name))
	case builtIn && p.SHA256 != "":
		return l.failPlugin(file, name, ".sha256", fmt.Errorf("plugin.%s.sha256: %s is built in", name, name))
	case !builtIn && p.Path == "":
		return l.failPlugin(file, name, ".", fmt.Errorf("plugin.%s has no path, and is none of the built-in actions", name))
	}
	return nil
}

// failPlugin puts err at the first key of the plugin in the file that begins so.
func (l *Loaded) failPlugin(file, name, key string, err error) error {
	line := 0
	for _, k := range slices.Sorted(maps.Keys(l.Origins)) {
		o := l.Origins[k]
		if o.File == file && strings.HasPrefix(k, "plugin."+name+key) && (line == 0 || o.Line < line) {
			line = o.Line
		}
	}
	return &Error{File: file, Line: line, Err: err}
}

func parsePath(v any) (string, error) {
	path, ok := v.(string)
	if !ok || !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" || strings.ContainsRune(path, 0) {
		return "", errors.New(`must be the absolute path of a program, e.g. "/usr/libexec/my-action"`)
	}
	return path, nil
}

func parseSHA256(v any) (string, error) {
	digits, ok := v.(string)
	if !ok || !sha256Digits.MatchString(digits) {
		return "", errors.New("must be 64 hexadecimal digits, as of sha256sum")
	}
	return strings.ToLower(digits), nil
}

func parseCredential(v any) (string, error) {
	name, ok := v.(string)
	if !ok || !credentialName.MatchString(name) {
		return "", errors.New("must be the name of a systemd credential: letters, digits, dots, dashes and underscores")
	}
	return name, nil
}

func parseSettings(v any) ([]byte, error) {
	table, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("must be a table, e.g. {url = \"...\"}")
	}
	return settingsJSON(table)
}

// settingsJSON gives what an action gets to see: an object of strings, numbers,
// booleans, and lists of those.
func settingsJSON(table map[string]any) ([]byte, error) {
	for _, key := range slices.Sorted(maps.Keys(table)) {
		if err := plain(table[key], true); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	return json.Marshal(table)
}

func plain(v any, list bool) error {
	switch v := v.(type) {
	case string, int64, bool:
		return nil
	case float64:
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			return nil
		}
	case []any:
		if !list {
			break
		}
		for _, item := range v {
			if err := plain(item, false); err != nil {
				return err
			}
		}
		return nil
	}
	return errors.New("must be a string, a number, a boolean or a list of those")
}
