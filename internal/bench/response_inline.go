package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/transcript"
)

// Bounds of the older system.
const (
	inlineRedisBound = 2 * time.Second
	inlineFileBound  = 5 * time.Second
	inlineThreads    = 32 // file operations at a time, as its pool of threads had
	inlinePool       = 256
)

// inlineWriter is what afterword replaces, after its fix: Redis and one JSON file
// a session, inside the request, each wait bounded. Its faults are kept: nothing
// stops two turns of a session from reading the same file and each writing its own;
// a read that is late counts as a session without a past, and is saved as that; and
// what is late may still land.
type inlineWriter struct {
	dir     string
	redis   *redis.Client
	threads chan struct{}
	work    sync.WaitGroup // what is under way on files, given up or not
}

// inlineFile is the older system's file.
type inlineFile struct {
	SessionID string          `json:"session_id"`
	CreatedAt time.Time       `json:"created_at"`
	UpdatedAt time.Time       `json:"updated_at"`
	Messages  []inlineMessage `json:"messages"`
}

type inlineMessage struct {
	chatTurn
	Timestamp time.Time `json:"timestamp"`
}

func newInlineWriter(j partJob) (*inlineWriter, error) {
	if err := os.MkdirAll(j.Dir, 0o700); err != nil {
		return nil, err
	}
	opts, err := redis.ParseURL(j.Redis)
	if err != nil {
		return nil, err
	}
	opts.PoolSize, opts.MaxRetries, opts.ContextTimeoutEnabled = inlinePool, -1, true
	opts.DialTimeout, opts.ReadTimeout, opts.WriteTimeout, opts.PoolTimeout = inlineRedisBound, inlineRedisBound, inlineRedisBound, inlineRedisBound
	cache.LogClient(nil)
	return &inlineWriter{dir: j.Dir, redis: redis.NewClient(opts), threads: make(chan struct{}, inlineThreads)}, nil
}

// history is what Redis has, or else what the file has, or else nothing.
func (w *inlineWriter) history(ctx context.Context, session string) []chatTurn {
	bound, cancel := context.WithTimeout(ctx, inlineRedisBound)
	defer cancel()
	if value, err := w.redis.Get(bound, cache.ConversationKey(session)).Bytes(); err == nil {
		var past []chatTurn
		if json.Unmarshal(value, &past) == nil {
			return past
		}
	}
	doc := w.read(session)
	var past []chatTurn
	for _, m := range doc.Messages[max(0, len(doc.Messages)-historyTurns):] {
		past = append(past, m.chatTurn)
	}
	return past
}

// save never fails: whatever did not work was logged, and the user got the answer.
func (w *inlineWriter) save(ctx context.Context, session string, past []chatTurn, said chatTurn) error {
	ctx = context.WithoutCancel(ctx)
	past = append(past, said)
	value, err := json.Marshal(past[max(0, len(past)-historyTurns):])
	if err != nil {
		return err
	}
	bound, cancel := context.WithTimeout(ctx, inlineRedisBound)
	defer cancel()
	_ = w.redis.Set(bound, cache.ConversationKey(session), value, cache.DefaultTTL).Err() // logged, there
	doc := w.read(session)
	now := time.Now().UTC()
	if len(doc.Messages) == 0 {
		doc.SessionID, doc.CreatedAt = session, now
	}
	doc.UpdatedAt = now
	doc.Messages = append(doc.Messages, inlineMessage{said, now})
	_ = w.bounded(func() error { return w.replace(session, doc) }) // logged, there
	return nil
}

// read returns what the file holds; when it cannot be read in time, that is
// nothing at all.
func (w *inlineWriter) read(session string) inlineFile {
	read := make(chan inlineFile, 1)
	_ = w.bounded(func() error { // a session without a file, above all
		data, err := os.ReadFile(w.path(session))
		if err != nil {
			return err
		}
		var doc inlineFile
		if err := json.Unmarshal(data, &doc); err != nil {
			return err
		}
		read <- doc
		return nil
	})
	select {
	case doc := <-read:
		return doc
	default:
		return inlineFile{}
	}
}

func (w *inlineWriter) replace(session string, doc inlineFile) error {
	data, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(w.dir, "*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), w.path(session))
}

func (w *inlineWriter) path(session string) string {
	return filepath.Join(w.dir, transcript.Token(session)+".json")
}

// bounded gives up on an operation that is late. One that has not begun by then
// never does; another goes on.
func (w *inlineWriter) bounded(op func() error) error {
	late := time.NewTimer(inlineFileBound)
	defer late.Stop()
	select {
	case w.threads <- struct{}{}:
	case <-late.C:
		return context.DeadlineExceeded
	}
	done := make(chan error, 1)
	w.work.Go(func() {
		defer func() { <-w.threads }()
		done <- op()
	})
	select {
	case err := <-done:
		return err
	case <-late.C:
		return context.DeadlineExceeded
	}
}

// close waits for what was given up on, and may land still.
func (w *inlineWriter) close(ctx context.Context) error {
	landed := make(chan struct{})
	go func() {
		w.work.Wait()
		close(landed)
	}()
	select {
	case <-landed:
		return w.redis.Close()
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("file operations still hang: %w", ctx.Err()), w.redis.Close())
	}
}

// inlineTexts reads what is in the file of a session.
func inlineTexts(dir, session string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(dir, transcript.Token(session)+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var doc inlineFile
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, nil // torn: nothing can be had from it
	}
	texts := make([]string, len(doc.Messages))
	for i, m := range doc.Messages {
		texts[i] = m.User
	}
	return texts, nil
}
