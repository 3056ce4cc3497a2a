package runner

import (
	"context"
	"fmt"
	"os"
	"time"
)

// beHost is a daemon with a plugin that is ready; it prints the plugin's
// process and waits to be killed.
func beHost(dir, program string) {
	r, err := New(Config{Dir: dir, Launcher: program, Plugins: []Plugin{{Name: "fault", Path: program, Args: []string{"good"}}}})
	if err == nil {
		err = r.Ready(context.Background(), "fault")
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(r.Status()[0].PID)
	time.Sleep(time.Hour)
}
