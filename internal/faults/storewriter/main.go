// Command storewriter is a process that has a transcript store and nothing else,
// so that a test can start and kill it hundreds of times.
//
// Its argument is a JSON object with the folder. It reads batches from stdin, one
// turn a line and an empty line after the last, and answers "ok" when a batch is
// durable, or with the error. A line "fold" folds everything.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/afterword-io/afterword/transcript"
)

const (
	tailLimit  = 2 << 10 // tails are emptied often
	quietAfter = 30 * time.Millisecond
	maxLine    = 16 << 20
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("storewriter: one argument is needed, the configuration")
	}
	var cfg struct {
		Dir        string
		Durability transcript.Durability
	}
	if err := json.Unmarshal([]byte(args[0]), &cfg); err != nil {
		return err
	}
	ctx := context.Background()
	store, err := transcript.Open(transcript.Config{Dir: cfg.Dir, Durability: cfg.Durability, TailLimit: tailLimit, QuietAfter: quietAfter})
	if err != nil {
		return err
	}
	fault := func(token string, err error) { fmt.Fprintln(os.Stderr, token, err) }
	if err := store.Walk(ctx, transcript.WalkConfig{Fault: fault}); err != nil {
		return err
	}
	fmt.Println("ready")
	var batch []transcript.Snapshot
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		switch line := lines.Text(); line {
		default:
			turn, err := transcript.Decode([]byte(line), 0)
			if err != nil {
				return err
			}
			batch = append(batch, turn)
		case "fold":
			answer(store.FoldAll(ctx))
		case "":
			answer(store.Append(ctx, batch...))
			batch = nil
		}
	}
	return lines.Err()
}

func answer(err error) {
	if err == nil {
		fmt.Println("ok")
		return
	}
	fmt.Println(strings.ReplaceAll(err.Error(), "\n", "; "))
}
