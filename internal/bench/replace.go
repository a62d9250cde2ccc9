package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/renameio/v2"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/afterword-io/afterword/transcript"
)

const replaceJob kind = "replace"

// replacing writes transcripts the older way, made durable: each turn is merged
// into its document, which is replaced atomically, with its folder synced.
type replacing struct {
	dir   string
	locks [1024]sync.Mutex // of sessions
	seed  maphash.Seed
}

// replace drains with as many workers as it is told, each of which writes one
// turn after the other and acknowledges it.
func replace(ctx context.Context, j job, progress func(int)) (outcome, error) {
	nc, js, err := connect(ctx, j.URL, 1)
	if err != nil {
		return outcome{}, err
	}
	defer nc.Close()
	cons, err := durable(ctx, js, j.Group)
	if err != nil {
		return outcome{}, err
	}
	r := &replacing{dir: j.Dir, seed: maphash.MakeSeed()}
	if err := makeFolders(j.Dir); err != nil {
		return outcome{}, err
	}
	began := time.Now()
	turns := make(chan jetstream.Msg, j.Batch)
	var written atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(turns)
		for got := 0; got < j.Turns; progress(int(written.Load())) {
			batch, err := fetchBatch(cons, min(j.Batch, j.Turns-got))
			if err != nil {
				return err
			}
			for _, m := range batch {
				select {
				case turns <- m:
				case <-gctx.Done():
					return context.Cause(gctx)
				}
			}
			got += len(batch)
		}
		return nil
	})
	for range j.Workers {
		g.Go(func() error {
			for m := range turns {
				if err := r.write(m.Data()); err != nil {
					return err
				}
				if err := m.Ack(); err != nil {
					return err
				}
				written.Add(1)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return outcome{}, err
	}
	if err := allAcked(ctx, js, j.Group, j.Turns); err != nil {
		return outcome{}, err
	}
	return outcome{Seconds: time.Since(began).Seconds(), Written: written.Load()}, nil
}

// write replaces the document of a turn.
func (r *replacing) write(payload []byte) error {
	turn, err := transcript.Decode(payload, len(payload))
	if err != nil {
		return err
	}
	lock := &r.locks[maphash.String(r.seed, turn.SessionID)%uint64(len(r.locks))]
	lock.Lock()
	defer lock.Unlock()
	path := filepath.Join(r.dir, transcript.DocumentPath(transcript.Sharded, turn.SessionID))
	doc := transcript.NewDocument(turn.SessionID)
	data, err := os.ReadFile(path)
	if err == nil {
		doc, err = transcript.ParseDocument(turn.SessionID, data)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := doc.Merge(turn); err != nil {
		return err
	}
	var text bytes.Buffer
	if _, err := doc.WriteTo(&text); err != nil {
		return err
	}
	if err := renameio.WriteFile(path, text.Bytes(), 0o600); err != nil { // syncs the file
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// makeFolders makes the folders of the sharded layout.
func makeFolders(dir string) error {
	for i := range 256 {
		if err := os.MkdirAll(filepath.Join(dir, fmt.Sprintf("%02x", i)), 0o700); err != nil {
			return err
		}
	}
	return nil
}
