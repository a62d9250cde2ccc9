package main

import (
	"net"
	"path/filepath"
	"regexp"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/afterword-io/afterword/internal/systemd"
)

// supervisor USEC: services that are started from now on have a supervisor, as
// systemd is one, with a watchdog of so many microseconds.
func cmdSupervisor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: supervisor USEC")
	}
	path := filepath.Join(ts.MkAbs("."), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	ts.Check(err)
	ts.Defer(func() { conn.Close() })
	said := &sceneOf(ts).told
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			said.Write(b[:n])
		}
	}()
	ts.Setenv(systemd.EnvSocket, path)
	ts.Setenv(systemd.EnvWatchdog, args[0])
}

// told PATTERN...: the supervisor is told something that matches each, in this order,
// after what it was told of before. With ! it has not been told any of it.
func cmdTold(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	for _, pattern := range args {
		re := regexp.MustCompile("(?m)" + pattern)
		rest := func() string { return s.told.String()[s.seen:] }
		if neg {
			if re.MatchString(rest()) {
				ts.Fatalf("it was told what matches %q:\n%s", pattern, rest())
			}
			continue
		}
		if !poll(func() bool {
			at := re.FindStringIndex(rest())
			if at != nil {
				s.seen += at[1]
			}
			return at != nil
		}) {
			ts.Fatalf("it was told nothing that matches %q:\n%s", pattern, rest())
		}
	}
}
