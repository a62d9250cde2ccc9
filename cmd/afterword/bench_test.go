package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// benchScript runs benchmarks with tiny sizes, through their hidden processes.
const benchScript = `
exec afterword bench replay --turns 300 --sessions 30 --runs 2 --dir scratch --plot replay.svg
stdout '^bench replay: 2 runs'
stdout 'raw ordered read  +[0-9,]+'
stdout '≥ 0.45 +(not )?reached'
stderr 'needs about .* free'
exists replay.svg
exec ls scratch
! stdout .
exec afterword bench replay --turns 300 --sessions 30 --runs 1 --json
stdout '^{"bench":"replay",.*"measures":\[{"name":"raw ordered read","unit":"turns/s","runs":\[[0-9.]+\]'
exits 2 afterword bench consume --turns 10 --sessions 20
stderr '10 turns cannot be spread over 20 sessions'
exits 2 afterword bench growth --runs 0
stderr '--runs is not positive'
exits 2 afterword bench replay --nats-server nowhere --turns 10 --sessions 2
stderr 'nowhere'
exec afterword bench publish --turns 300 --sessions 30 --runs 1 --rate 200 --for 200ms
stdout '^bench publish: 1 run'
exec afterword bench
stdout 'consume'
! stdout 'worker'
`

func TestBench(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bench.txtar")
	if err := os.WriteFile(file, []byte(benchScript), 0o600); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Files: []string{file},
		Cmds:  map[string]func(*testscript.TestScript, bool, []string){"exits": cmdExits},
	})
}
