package runner

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/tcpmemd/tcpmemd/remediate"
)

// beHost is a daemon with a plugin that acts; it prints the plugin's process
// and waits to be killed.
func beHost(dir, program, fault string) {
	r, err := New(Config{Dir: dir, Launcher: program, Plugins: []Plugin{{Name: "fault", Path: program, Args: []string{fault}}}})
	if err == nil {
		err = r.Ready(context.Background(), "fault")
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	time.AfterFunc(200*time.Millisecond, func() { fmt.Println(r.Status()[0].PID) })
	_, _ = r.Run(context.Background(), "fault", &remediate.Request{Deadline: time.Now().Add(time.Hour)})
	time.Sleep(time.Hour)
}
