package bench

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// selfArg makes the test binary one of the processes that a benchmark starts.
const selfArg = "bench-process"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == selfArg {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if err := runProcess(ctx, os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func runProcess(ctx context.Context, args []string) error {
	switch args[0] {
	case natsCommand:
		return ServeNATS(ctx, args[len(args)-1])
	case workerCommand:
		return Work(ctx, os.Stdin, os.Stdout)
	}
	return fmt.Errorf("unknown process %q", args)
}

// tiny is a configuration for tests: two runs, this test binary as processes.
func tiny(t *testing.T) Config {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Cleanup(func() {
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("the scratch folder is not cleaned up: %v, %v", left, err)
		}
	})
	return Config{Runs: 2, Dir: dir, Self: []string{exe, selfArg}}
}
