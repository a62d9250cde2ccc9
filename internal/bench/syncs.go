package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const syncsJob kind = "syncs"

// syncTwice is the floor of the way from one end to the other: what the disk alone takes
// for it. Turns come at the rate; those that are due are appended to one file, which is
// synced, as a stream does it, then to a file a session, which are synced together.
// There is no NATS, and nothing else is done meanwhile.
func syncTwice(ctx context.Context, j job, progress func(int)) (o outcome, err error) {
	c, err := j.Source.open()
	if err != nil {
		return o, err
	}
	if err := makeFolders(j.Dir); err != nil {
		return o, err
	}
	root, err := os.Open(j.Dir)
	if err != nil {
		return o, err
	}
	defer root.Close()
	log, err := os.OpenFile(filepath.Join(j.Dir, "stream"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return o, err
	}
	defer log.Close()
	every := time.Second / time.Duration(j.Rate)
	began := time.Now()
	due := func(n int) time.Time { return began.Add(time.Duration(n) * every) }
	var took []time.Duration
	for n := 0; time.Since(began) < warmUp+j.For; {
		if err := pause(ctx, time.Until(due(n))); err != nil {
			return o, err
		}
		from := n
		texts := make(map[string][]byte)
		for ; !time.Now().Before(due(n)); n++ {
			s, err := c.snapshot(n % c.Turns)
			if err != nil {
				return o, err
			}
			path := tailPath(fmt.Sprint("session-", n%endToEndSessions))
			texts[path] = append(s.AppendPayload(texts[path]), '\n')
		}
		for _, text := range texts {
			if _, err := log.Write(text); err != nil {
				return o, err
			}
		}
		if err := unix.Fdatasync(int(log.Fd())); err != nil {
			return o, os.NewSyscallError("fdatasync", err)
		}
		for path, text := range texts {
			if err := appendFile(filepath.Join(j.Dir, path), text); err != nil {
				return o, err
			}
		}
		if err := unix.Syncfs(int(root.Fd())); err != nil {
			return o, os.NewSyscallError("syncfs", err)
		}
		for now := time.Now(); from < n; from++ {
			if due(from).Sub(began) >= warmUp {
				took = append(took, now.Sub(due(from)))
			}
		}
		progress(int(time.Since(began) / time.Millisecond))
	}
	l := Quantiles(took)
	return outcome{P50: l.P50.Seconds(), P99: l.P99.Seconds(), Written: int64(len(took))}, nil
}
