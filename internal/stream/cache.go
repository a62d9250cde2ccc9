package stream

import (
	"context"
	"errors"
	"reflect"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// What processes that share a Redis keep in NATS.
const (
	// Cache is the stream of it: one message per subject, the last.
	Cache = "AFTERWORD_CACHE"
	// CachePrefix begins all subjects of what processes share about Redis.
	CachePrefix = "afterword.cache."
	// CacheKey is the subject of the key that entries in Redis are signed with: its bytes.
	CacheKey = "afterword.cache.key"
	// CacheBehindPrefix and the id of a process make the subject of what Redis is behind
	// with, as that process knows.
	CacheBehindPrefix = "afterword.cache.behind."
	// CacheBehind matches the subjects of all processes.
	CacheBehind = CacheBehindPrefix + "*"
	// CacheBeatPrefix and the id of a process make the subject on which it says now and then that it
	// is there. This is not kept in the stream.
	CacheBeatPrefix = "afterword.cache.beat."
	// CacheBeatNow asks all processes to say it now.
	CacheBeatNow = CacheBeatPrefix + "now"
	// CacheTold matches what processes tell each other: the subjects with both prefixes.
	CacheTold = "afterword.cache.*.*"
)

// EnsureCache returns the stream [Cache], with its state as it is now. It creates
// the stream where there is none, with as many replicas as [Turns] has; so it fails with
// [ErrNoStream] until that exists. Settings under which it would refuse or lose what processes
// tell each other are set back. Its other errors are those of [Ensure].
func EnsureCache(ctx context.Context, js jetstream.JetStream) (jetstream.Stream, error) {
	s, err := openStream(ctx, js, Cache)
	if err == nil {
		have := s.CachedInfo().Config
		if want := cacheLimits(have); !reflect.DeepEqual(want, have) {
			if err := update(ctx, js, want); err != nil {
				return nil, err
			}
			return openStream(ctx, js, Cache)
		}
	}
	if !errors.Is(err, ErrNoStream) {
		return s, err
	}
	turns, err := lookUp(ctx, js, Turns)
	if err != nil {
		return nil, err
	}
	if _, err := create(ctx, js, cacheLimits(jetstream.StreamConfig{
		Name:        Cache,
		Description: "afterword: what processes that share a Redis have to know",
		Storage:     jetstream.FileStorage, Replicas: max(turns.Replicas, 1),
		Retention: jetstream.LimitsPolicy, MaxConsumers: -1,
	})); err != nil {
		return nil, err
	}
	return openStream(ctx, js, Cache)
}

// cacheLimits is the configuration with what the stream needs. There is no direct access: a replica that
// is behind would say that nothing is wrong.
func cacheLimits(cfg jetstream.StreamConfig) jetstream.StreamConfig {
	cfg.Subjects = []string{CacheKey, CacheBehind}
	cfg.Discard, cfg.MaxMsgsPerSubject = jetstream.DiscardOld, 1
	cfg.MaxMsgs, cfg.MaxBytes, cfg.MaxMsgSize, cfg.MaxAge = -1, -1, -1, 0
	cfg.AllowMsgTTL, cfg.AllowDirect, cfg.NoAck = true, false, false
	return cfg
}

func openStream(ctx context.Context, js jetstream.JetStream, name string) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout(js))
	defer cancel()
	s, err := js.Stream(ctx, name)
	if err != nil {
		return nil, Explain(js, "look up stream "+name, err)
	}
	return s, nil
}

// WrongLast reports whether a publish was refused because another was first.
func WrongLast(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) &&
		(api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

const (
	// CacheClearedFor is how long the stream keeps that there is nothing more to say of a process.
	CacheClearedFor = time.Hour
	// CacheToldFor is how long the stream keeps what a process has said last: as long as its entries
	// in Redis live.
	CacheToldFor = 24 * time.Hour
)
