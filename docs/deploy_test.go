package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// deployed are the files that set variables of services.
func deployed(t *testing.T) []string {
	t.Helper()
	units, err := filepath.Glob(filepath.Join(root, "deploy/systemd/*"))
	if err != nil || len(units) < 4 {
		t.Fatalf("deploy/systemd has %v: %v", units, err)
	}
	return append(units, filepath.Join(root, "deploy/compose.yaml"), filepath.Join(root, "deploy/Dockerfile"))
}

// TestDeployedVariables checks that every variable that deploy/ sets, the ones in
// comments included, is one that the commands know.
func TestDeployedVariables(t *testing.T) {
	var known []string
	for _, f := range flagsOf(t) {
		known = append(known, f.env)
	}
	found := 0
	for _, name := range deployed(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range regexp.MustCompile(`\b(AFTERWORD_[A-Z_]+|NATS_(?:URL|CREDS)|REDIS_URL)\b`).FindAllString(string(text), -1) {
			found++
			if !slices.Contains(known, v) {
				t.Errorf("%s sets %s, which no command knows", name, v)
			}
		}
	}
	if found < 15 {
		t.Errorf("only %d variables were found in deploy/", found)
	}
}

// TestStopTimeouts checks that supervisors give services more time than they take
// to drain.
func TestStopTimeouts(t *testing.T) {
	drain, err := time.ParseDuration(strings.Trim(flagsOf(t)["drain-timeout"].defaults.said[0], "`"))
	if err != nil {
		t.Fatal(err)
	}
	timeouts := regexp.MustCompile(`(?m)^\s*(?:TimeoutStopSec=|stop_grace_period: )(\S+)`)
	found := 0
	for _, name := range deployed(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range timeouts.FindAllStringSubmatch(string(text), -1) {
			found++
			if d, err := time.ParseDuration(m[1]); err != nil || d < drain+5*time.Second {
				t.Errorf("%s stops after %s (%v); draining may take %s", name, m[1], err, drain)
			}
		}
	}
	if found != 5 {
		t.Errorf("%d stop timeouts were found in deploy/, not one for each of 2 units, 2 containers and those of NATS", found)
	}
}

// TestWatchdogs checks that no trouble of disks or servers that a service waits out
// is taken for a process that does not move.
func TestWatchdogs(t *testing.T) {
	const longest = consumer.DefaultProbeMax + 2*transcript.DefaultFileTimeout + stream.DefaultRequestTimeout
	found := 0
	for _, name := range deployed(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^WatchdogSec=(\S+)$`).FindAllStringSubmatch(string(text), -1) {
			found++
			if d, err := time.ParseDuration(m[1]); err != nil || d < 2*longest {
				t.Errorf("%s has a watchdog of %s (%v); a step may take %s, and half of the watchdog is waited for", name, m[1], err, longest)
			}
		}
	}
	if found != 2 {
		t.Errorf("%d watchdogs were found, not one for each of 2 units", found)
	}
}
