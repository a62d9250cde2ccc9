package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"afterword": main})
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
