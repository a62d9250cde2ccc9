package cache

import (
	"context"
	"time"
)

// bounded returns what fn returns, or the reason of the context's end when that
// comes first. fn is not waited for then: what cannot be cancelled goes on
// alone, and its result is dropped.
func bounded[T any](ctx context.Context, limit time.Duration, fn func(context.Context) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	done := make(chan result, 1)
	go func() {
		defer cancel()
		v, err := fn(ctx)
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-done: // fn came to its end at the same time, or ended the context itself
		return r.value, r.err
	default:
		var none T
		return none, context.Cause(ctx)
	}
}
