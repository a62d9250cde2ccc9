package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

const consumersDrain = 60 * time.Second

// publishingWriter publishes what was said and goes on.
type publishingWriter struct {
	nc        *nats.Conn
	redis     *cache.Redis
	store     *transcript.Store
	publisher *publisher.Publisher
	past      *cache.History
	shared    *cache.Shared
}

// newPublishingWriter puts together what a chat API has of afterword, all with its
// defaults. The transcripts folder is there already.
func newPublishingWriter(ctx context.Context, j partJob) (_ *publishingWriter, err error) {
	w := &publishingWriter{}
	if w.nc, err = stream.Connect(ctx, stream.Config{URL: j.NATS, Name: "afterword bench api", Wait: true}); err != nil {
		return nil, err
	}
	js, err := jetstream.New(w.nc)
	if err != nil {
		return nil, err
	}
	cache.LogClient(nil)
	if w.redis, err = cache.New(cache.Config{URL: j.Redis}); err != nil {
		return nil, err
	}
	if w.publisher, err = publisher.New(publisher.Config{Conn: w.nc}); err != nil {
		return nil, err
	}
	if w.shared, err = cache.NewShared(cache.SharedConfig{JS: js, Redis: w.redis}); err != nil {
		return nil, err
	}
	w.shared.Wait(ctx)
	cfg := cache.HistoryConfig{
		Redis: w.redis, Trust: w.shared.Trust, Stream: consumer.NewStreamReader(js, 0), Pending: w.publisher, Observe: w.publisher.Observe,
	}
	if j.Dir != "" {
		if w.store, err = transcript.Open(transcript.Config{Dir: j.Dir, ReadOnly: true}); err != nil {
			return nil, err
		}
		cfg.File = w.store
	}
	if w.past, err = cache.NewHistory(cfg); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *publishingWriter) history(ctx context.Context, session string) []chatTurn {
	res, err := w.past.Load(ctx, session, historyTurns)
	if err != nil {
		return nil // the user has gone
	}
	past := make([]chatTurn, 0, len(res.Turns))
	for i := range res.Turns {
		user, assistant := res.Turns[i].Exchange()
		past = append(past, chatTurn{user, assistant})
	}
	return past
}

func (w *publishingWriter) save(ctx context.Context, session string, _ []chatTurn, said chatTurn) error {
	_, err := w.publisher.Publish(ctx, transcript.Turn{SessionID: session, User: said.User, Assistant: said.Assistant})
	return err
}

func (w *publishingWriter) close(ctx context.Context) error {
	err := errors.Join(w.publisher.Close(ctx), w.past.Close(ctx), w.shared.Close(ctx), w.redis.Close())
	if w.store != nil {
		err = errors.Join(err, w.store.Close(ctx))
	}
	w.nc.Close()
	return err
}

// serveConsumers is the consumers' process: what `afterword consume` runs.
func serveConsumers(ctx context.Context, j partJob, say func(partLine)) (err error) {
	nc, js, err := connectSoon(ctx, j.NATS)
	if err != nil {
		return err
	}
	defer nc.Close()
	cache.LogClient(nil)
	redis, err := cache.New(cache.Config{URL: j.Redis})
	if err != nil {
		return err
	}
	defer redis.Close()
	store, err := transcript.Open(transcript.Config{Dir: j.Dir})
	if err != nil {
		return err
	}
	var c *consumer.Consumer
	refresher, err := cache.NewRefresher(cache.RefresherConfig{Redis: redis, Reader: store, OnMissed: func() { c.Walk(false) }})
	if err != nil {
		return err
	}
	shared, err := cache.NewShared(cache.SharedConfig{JS: js, Redis: redis, Refresher: refresher, Walk: func(all bool) { c.Walk(all) }})
	if err != nil {
		return err
	}
	if c, err = consumer.New(consumer.Config{JS: js, Store: store, Cache: refresher, OnWalked: refresher.Walked}); err != nil {
		return err
	}
	say(partLine{Ready: true})
	err = c.Run(ctx)
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), consumersDrain)
	defer cancel()
	// A Redis that hung until now is asked again only in a second or so.
	return errors.Join(err, refresher.Flush(bound), store.Close(bound), refresher.Close(bound), shared.Close(bound))
}

// drained waits until the consumers have made everything durable that the stream has.
func drained(ctx context.Context, url string, bound time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	nc, js, err := connect(ctx, url, 1)
	if err != nil {
		return err
	}
	defer nc.Close()
	left := "the consumers did not come back"
	for {
		if c, err := js.Consumer(ctx, stream.Turns, consumer.DefaultGroup); err == nil {
			info := c.CachedInfo()
			if info.NumPending == 0 && info.NumAckPending == 0 {
				return nil
			}
			left = fmt.Sprintf("%d turns wait and %d are not acknowledged", info.NumPending, info.NumAckPending)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not drained within %v: %s", bound, left)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// storeTexts reads what is in the transcript of a session.
func storeTexts(ctx context.Context, s *transcript.Store, session string) ([]string, error) {
	doc, err := s.Read(ctx, session)
	if errors.Is(err, transcript.ErrNoSession) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	turns, err := doc.Turns()
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(turns))
	for i := range turns {
		t, err := turns[i].Turn()
		if err != nil {
			return nil, err
		}
		texts[i] = t.User
	}
	return texts, nil
}
