package settings

import (
	"strings"

	"github.com/tcpmemd/tcpmemd/daemon/nearest"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// unknown says that there is no such setting, with the one that was probably
// meant.
func unknown(name string, declared []remediate.Setting) string {
	var names []string
	for _, s := range declared {
		names = append(names, s.Name)
	}
	if near := nearest.Name(name, names); near != "" {
		return "unknown setting; did you mean " + near + "?"
	}
	if len(declared) == 0 {
		return "unknown setting; there are none"
	}
	return "unknown setting; there are " + strings.Join(names, ", ")
}
