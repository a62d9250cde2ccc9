package console

import (
	"context"
	"net/http"
	"strings"
	"sync"

	"github.com/afterword-io/afterword/consumer"
)

// mount is where the console is, under the base path.
const mount = "/console"

// heavy is how many requests may read or compare a lot at one time.
const heavy = 4

// Console is the page and what is behind it. It is safe for concurrent use.
type Console struct {
	cfg     Config
	mux     *http.ServeMux
	cross   *http.CrossOriginProtection
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
		cfg: cfg, mux: http.NewServeMux(), cross: http.NewCrossOriginProtection(),
		stream: consumer.NewStreamReader(cfg.JS, cfg.LookupTimeout), letters: consumer.DeadLetters{JS: cfg.JS},
		figures: newFigures(cfg), replays: newReplays(cfg),
		slots: make(chan struct{}, heavy), stopping: make(chan struct{}),
	}
	c.stream.Memory = cfg.Memory
	if err := c.addPage(); err != nil {
		return nil, err
	}
	for pattern, h := range map[string]handler{
		"GET /api/overview":             c.overview,
		"GET /api/sessions":             c.sessions,
		"GET /api/transcript":           c.transcript,
		"GET /api/agreement":            c.limited(c.agreement),
		"GET /api/letters":              c.limited(c.listLetters),
		"GET /api/letters/{seq}":        c.letter,
		"POST /api/letters/requeue":     c.change(c.requeue),
		"POST /api/letters/discard":     c.change(c.discard),
		"GET /api/replays":              c.listReplays,
		"POST /api/replays":             c.change(c.startReplay),
		"POST /api/replays/{id}/cancel": c.change(c.cancelReplay),
		"GET /api/tail":                 c.tail,
	} {
		c.mux.Handle(pattern, c.answer(h))
	}
	c.mux.Handle("/api/", c.answer(func(http.ResponseWriter, *http.Request) error {
		return newProblem(http.StatusNotFound, "There is nothing at this path that answers this method.")
	}))
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

// Around answers what is the console's, and leads from / to it. Everything else goes to next.
func (c *Console) Around(next http.Handler) http.Handler {
	base := c.cfg.BasePath
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if cut, ok := strings.CutPrefix(path, base); ok && base != "" && (cut == "" || cut[0] == '/') {
			path = cut
		}
		switch {
		case path == "/" || path == "" || path == mount:
			if c.guard(w, r) {
				http.Redirect(w, r, base+mount+"/", http.StatusFound)
			}
		case strings.HasPrefix(path, mount+"/"):
			if c.guard(w, r) {
				inner := r.Clone(r.Context())
				inner.URL.Path, inner.URL.RawPath = strings.TrimPrefix(path, mount), ""
				c.mux.ServeHTTP(w, inner)
			}
		default:
			next.ServeHTTP(w, r)
		}
	})
}
