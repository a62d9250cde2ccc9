package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"

	"github.com/afterword-io/afterword/transcript"
)

// freeBody is how much of a body is read without a part of [Config.BodyMemory], in bytes: nearly all turns are
// shorter, and so never wait for longer ones.
const freeBody = 64 << 10

// body reads the body whole.
func (g *Gateway) body(w http.ResponseWriter, r *http.Request, held *transcript.Held) ([]byte, error) {
	most := g.cfg.maxBody()
	if r.ContentLength > most {
		return nil, tooLarge(most)
	}
	body, err := readAll(r.Context(), http.MaxBytesReader(w, r.Body, most), held)
	if err != nil {
		return nil, g.bodyProblem(err)
	}
	return body, nil
}

// readAll reads all that comes, and holds memory for it.
func readAll(ctx context.Context, from io.Reader, held *transcript.Held) ([]byte, error) {
	body := make([]byte, 0, 4<<10)
	for {
		if len(body) == cap(body) {
			more := cap(body)
			if err := hold(ctx, held, cap(body), more); err != nil {
				return nil, err
			}
			body = slices.Grow(body, more)
		}
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			return nil, err
		}
	}
}

// hold takes memory for a buffer that grows from a size.
func hold(ctx context.Context, held *transcript.Held, from, more int) error {
	if from+more <= freeBody {
		return nil
	}
	return held.Grow(ctx, int64(more))
}

// bodyProblem is why a body could not be read.
func (g *Gateway) bodyProblem(err error) error {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return err
	case errors.Is(err, transcript.ErrMemory):
		return newProblem(http.StatusServiceUnavailable, "unavailable", "",
			"The requests that are being read hold all the memory that they may together (--body-memory). Try again.")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return g.bodyLate(err)
	}
	return bodyCut(err)
}

func (g *Gateway) bodyLate(err error) *problem {
	g.lateBodies.Add(1)
	return newProblem(http.StatusRequestTimeout, "", "", "The body did not come in time.").because(err)
}

func bodyCut(err error) *problem {
	return badRequest("", "The body ended too early.").because(fmt.Errorf("read the body: %w", err))
}
