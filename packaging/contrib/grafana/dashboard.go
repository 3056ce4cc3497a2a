// Package grafana holds a dashboard, and reads it for tests: which panels it
// has, and what they ask Prometheus for once Grafana has put its variables in.
package grafana

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
)

//go:embed tcpmemd.json
var text []byte

// Dashboard is what the tests look at of Grafana's classic model.
type Dashboard struct {
	UID           string  `json:"uid"`
	SchemaVersion int     `json:"schemaVersion"`
	Panels        []Panel `json:"panels"`
	Templating    struct {
		List []Variable `json:"list"`
	} `json:"templating"`
	Links []struct {
		URL string `json:"url"`
	} `json:"links"`
}

// Variable is one that a person chooses.
type Variable struct {
	Name       string     `json:"name"`
	Type       string     `json:"type"`
	Query      any        `json:"query"`
	Datasource Datasource `json:"datasource"`
	Multi      bool       `json:"multi"`
	IncludeAll bool       `json:"includeAll"`
	AllValue   string     `json:"allValue"`
}

// Datasource says who is asked.
type Datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// Panel is a row's heading, or what shows data.
type Panel struct {
	ID          int        `json:"id"`
	Type        string     `json:"type"`
	Title       string     `json:"title"`
	Description string     `json:"description"`
	Datasource  Datasource `json:"datasource"`
	GridPos     struct {
		X, Y, W, H int
	} `json:"gridPos"`
	FieldConfig struct {
		Defaults struct {
			Unit       string `json:"unit"`
			NoValue    string `json:"noValue"`
			Thresholds struct {
				Steps []struct {
					Color string   `json:"color"`
					Value *float64 `json:"value"`
				} `json:"steps"`
			} `json:"thresholds"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []Target `json:"targets"`

	// Host: it is about one host, below the second heading.
	Host bool `json:"-"`
}

// Target is a query of a panel.
type Target struct {
	RefID      string     `json:"refId"`
	Expr       string     `json:"expr"`
	Legend     string     `json:"legendFormat"`
	Format     string     `json:"format"`
	Instant    bool       `json:"instant"`
	Range      bool       `json:"range"`
	Datasource Datasource `json:"datasource"`
}

// Read gives the dashboard that is shipped.
func Read() (*Dashboard, error) {
	d := new(Dashboard)
	if err := json.Unmarshal(text, d); err != nil {
		return nil, fmt.Errorf("read dashboard: %w", err)
	}
	rows := 0
	for i := range d.Panels {
		p := &d.Panels[i]
		if p.Type == "row" {
			rows++
		}
		p.Host = rows > 1
	}
	return d, nil
}

// Fill puts values in the place of variables, as Grafana does where all jobs and
// hosts are chosen above, and one host below.
func Fill(expr, host, rateInterval string) string {
	return strings.NewReplacer("$job", ".*", "$instance", ".*", "$host", host, "$__rate_interval", rateInterval).Replace(expr)
}
