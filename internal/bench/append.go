package bench

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/afterword-io/afterword/transcript"
)

const appendJob kind = "append"

// appendFiles is the floor: what the files alone cost. The same turns in the same
// batches are appended to a file a session, each session in one write, and every
// batch is made durable with one sync. Making the turns is not counted.
func appendFiles(ctx context.Context, j job, progress func(int)) (outcome, error) {
	c, err := j.Source.open()
	if err != nil {
		return outcome{}, err
	}
	if err := makeFolders(j.Dir); err != nil {
		return outcome{}, err
	}
	root, err := os.Open(j.Dir)
	if err != nil {
		return outcome{}, err
	}
	defer root.Close()
	took := time.Duration(0)
	for from := 0; from < j.Turns; from += j.Batch {
		if ctx.Err() != nil {
			return outcome{}, context.Cause(ctx)
		}
		texts := make(map[string][]byte)
		for n := from; n < min(from+j.Batch, j.Turns); n++ {
			s, err := c.snapshot(n)
			if err != nil {
				return outcome{}, err
			}
			path := tailPath(s.SessionID)
			texts[path] = append(s.AppendPayload(texts[path]), '\n')
		}
		began := time.Now()
		var g errgroup.Group
		g.SetLimit(max(2, runtime.GOMAXPROCS(0)))
		for path, text := range texts {
			g.Go(func() error { return appendFile(filepath.Join(j.Dir, path), text) })
		}
		if err := g.Wait(); err != nil {
			return outcome{}, err
		}
		if err := unix.Syncfs(int(root.Fd())); err != nil {
			return outcome{}, os.NewSyscallError("syncfs", err)
		}
		took += time.Since(began)
		progress(from)
	}
	return outcome{Seconds: took.Seconds(), Written: int64(j.Turns)}, nil
}

// tailPath is where the tail of a session is, in a folder of transcripts.
func tailPath(session string) string {
	return strings.TrimSuffix(transcript.DocumentPath(transcript.Sharded, session), ".json") + ".tail"
}

func appendFile(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
