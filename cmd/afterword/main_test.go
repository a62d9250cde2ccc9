package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain builds the binary and puts it first on the path. It has no race detector: with it, the hundreds of
// commands of the scripts take three times as long. internal/acceptance runs services that have it.
func TestMain(m *testing.M) {
	code, err := withBinary(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withBinary(run func() int) (int, error) {
	dir, err := os.MkdirTemp("", "afterword-test-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if text, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, "afterword"), ".").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build the binary: %w: %s", err, text)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // scripts run it as other users, too
		return 0, err
	}
	if err := os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH")); err != nil {
		return 0, err
	}
	return run(), nil
}

// TestScripts runs the binary as people do, against real servers.
func TestScripts(t *testing.T) {
	deploy, err := filepath.Abs("../../deploy")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Values[sceneKey{}] = newScene(t)
			env.Setenv("DEPLOY", deploy)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond != "root" {
				return false, fmt.Errorf("no condition %q", cond)
			}
			return os.Geteuid() == 0, nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":          cmdExits,
			"eventually":     cmdEventually,
			"start":          cmdStart,
			"sees":           cmdSees,
			"signal":         cmdSignal,
			"ends":           cmdEnds,
			"ports":          cmdPorts,
			"hole":           cmdHole,
			"nats":           cmdNATS,
			"nkeys":          cmdNkeys,
			"denied":         cmdDenied,
			"redis":          cmdRedis,
			"asyncstream":    cmdAsyncStream,
			"limitstream":    cmdLimitStream,
			"removestream":   cmdRemoveStream,
			"removeconsumer": cmdRemoveConsumer,
			"sealstream":     cmdSealStream,
			"rawpublish":     cmdRawPublish,
			"http":           cmdHTTP,
			"ready":          cmdReady,
			"lines":          cmdLines,
			"supervisor":     cmdSupervisor,
			"told":           cmdTold,
		},
	})
}
