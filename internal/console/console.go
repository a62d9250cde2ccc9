package console

import (
	"context"
	"net/http"
	"sync"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/httpio"
)

// mount is where the console is, under the base path.
const mount = "console"

// heavy is how many requests may read or compare a lot at one time.
const heavy = 4

// Console is the page and what is behind it. It is safe for concurrent use.
type Console struct {
	cfg     Config
	routes  []route
	stream  *consumer.StreamReader
	letters consumer.DeadLetters
	figures *figures
	replays *replays
	slots   chan struct{}

	stopOnce sync.Once
	stopping chan struct{} // closed when Run ends
}

// New makes a console. Figures are taken, and replays run, while [Console.Run] does.
func New(cfg Config) (*Console, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Console{
		cfg:    cfg,
		stream: consumer.NewStreamReader(cfg.JS, cfg.LookupTimeout), letters: consumer.DeadLetters{JS: cfg.JS},
		figures: newFigures(cfg), replays: newReplays(cfg),
		slots: make(chan struct{}, heavy), stopping: make(chan struct{}),
	}
	c.stream.Memory = cfg.Memory
	if err := c.addPage(); err != nil {
		return nil, err
	}
	for _, rt := range []struct {
		method, path string
		handle       handler
	}{
		{http.MethodGet, "/api/overview", c.overview},
		{http.MethodGet, "/api/sessions", c.sessions},
		{http.MethodGet, "/api/transcript", c.transcript},
		{http.MethodGet, "/api/agreement", c.limited(c.agreement)},
		{http.MethodGet, "/api/letters", c.limited(c.listLetters)},
		{http.MethodPost, "/api/letters/requeue", c.change(c.requeue)},
		{http.MethodPost, "/api/letters/discard", c.change(c.discard)},
		{http.MethodGet, "/api/letters/{seq}", c.letter}, // behind those that have a name
		{http.MethodGet, "/api/replays", c.listReplays},
		{http.MethodPost, "/api/replays", c.change(c.startReplay)},
		{http.MethodPost, "/api/replays/{id}/cancel", c.change(c.cancelReplay)},
		{http.MethodGet, "/api/tail", c.tail},
	} {
		c.add(rt.method, rt.path, c.answer(rt.handle))
	}
	return c, nil
}

// Run takes figures and runs replays until ctx ends; then it cancels those that are
// on their way, ends the streams of events, and returns.
func (c *Console) Run(ctx context.Context) error {
	c.replays.open()
	defer c.replays.close()
	defer c.stopOnce.Do(func() { close(c.stopping) })
	c.figures.run(ctx)
	return nil
}

// Around answers what is the console's, and leads from / to it. Everything else goes to next. A guard
// ([httpio.Guard]) has to stand in front of it.
func (c *Console) Around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, ok := httpio.Segments(r.URL)
		if path = c.below(path); !ok || len(path) > 0 && path[0] != mount && !(len(path) == 1 && path[0] == "") {
			next.ServeHTTP(w, r)
			return
		}
		setHeaders(w.Header())
		if len(path) > 1 {
			inner := r.Clone(r.Context())
			c.find(inner, path[1:]).ServeHTTP(w, inner)
			return
		}
		if !httpio.Answers(http.MethodGet, r) {
			httpio.NotAllowed(httpio.Allow([]string{http.MethodGet})).Write(w)
			return
		}
		http.Redirect(w, r, c.cfg.BasePath+"/"+mount+"/", http.StatusFound)
	})
}
