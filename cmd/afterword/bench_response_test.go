package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// benchResponseScript runs the load test with tiny sizes, through its hidden processes.
const benchResponseScript = `
exec afterword bench response --users 5 --condition healthy --think 5ms --duration 1s --rate 100 --runs 1 --dir scratch --plot response.svg --profile profiles
stdout '^CONDITION +USERS +WRITER +TURNS +P50'
stdout '^healthy +5 +none '
stdout '^healthy +5 +inline '
stdout '^healthy +5 +afterword '
stdout '^healthy, 5 users: p95 afterword / none .* ≤ 1.05 +(not )?reached'
stdout '^healthy, 5 users: turns lost with afterword +0 .* reached'
stderr 'needs about .* free'
exists response.svg
exec ls profiles
stdout 'api.pprof'
stdout 'consumers.pprof'
exec ls scratch
! stdout .
exec afterword bench response --users 5 --condition healthy --writer none --think 5ms --duration 1s --runs 1 --json
stdout '"cells":\[{"condition":"healthy","users":5,"writer":"none"'
exits 2 afterword bench response --condition rain
stderr 'unknown condition "rain"'
exits 2 afterword bench response --writer me
stderr 'unknown writer "me"'
exits 2 afterword bench response --users 0
stderr 'users'
exits 2 afterword bench response --rate -1
stderr '--rate is negative'
`

func TestBenchResponse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bench_response.txtar")
	if err := os.WriteFile(file, []byte(benchResponseScript), 0o600); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Files: []string{file},
		Cmds:  map[string]func(*testscript.TestScript, bool, []string){"exits": cmdExits},
	})
}
