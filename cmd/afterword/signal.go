package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// sameSignal is how close together two signals count as one: a wrapper such as
// timeout(1), or a terminal, sends it to the process and to its group.
const sameSignal = 250 * time.Millisecond

// errInterrupted is the cause of a context that a signal ended.
var errInterrupted = errors.New("interrupted")

// untilSignal returns a context that the first SIGINT, SIGTERM or SIGHUP ends. A
// second one ends the process at once: whoever sends it does not want to wait,
// and what was acknowledged is on disk. A SIGHUP never is that second one: a terminal
// that closes sends several, and stops in earnest with another signal.
//
// Where SIGHUP is ignored from the start, as under nohup(1), it stays so.
func untilSignal(ctx context.Context, stderr io.Writer) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 2)
	stops := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		stops = append(stops, syscall.SIGHUP)
	}
	signal.Notify(signals, stops...)
	done := make(chan struct{})
	go func() {
		var first time.Time
		for {
			var sig os.Signal
			select {
			case <-done:
				return
			case sig = <-signals:
			}
			switch {
			case first.IsZero():
				first = time.Now()
				cancel(errInterrupted)
			case sig != syscall.SIGHUP && time.Since(first) > sameSignal:
				fmt.Fprintln(stderr, "afterword: interrupted twice: ended at once")
				os.Exit(exitInterrupted)
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}

func interrupted(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), errInterrupted)
}
