package acceptance

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var (
	full = flag.Bool("full", false, "run the sizes of the acceptance list, which take long")
	heal = flag.Duration("heal", healed, "how long after a fault everything has to be right")
	soak = flag.Duration("soak", 0, "run TestSoak for so long")
	seed = flag.Uint64("seed", 0, "seed of what is random; 0 takes one from the clock")
)

var (
	program    string   // afterword, built when a test starts it
	writer     string   // storewriter, likewise
	buildFlags []string // -race if the tests have it
)

// overlayEnv names a file for go build -overlay: the programs are then built
// of sources of which some are replaced.
const overlayEnv = "AFTERWORD_TEST_OVERLAY"

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "afterword-acceptance-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program, writer = filepath.Join(dir, "afterword"), filepath.Join(dir, "storewriter")
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// build builds afterword, and buildWriter its store writer, which has to start fast.
var (
	build       = sync.OnceValue(func() error { return goBuild(program, "../../cmd/afterword", buildFlags...) })
	buildWriter = sync.OnceValue(func() error { return goBuild(writer, "../faults/storewriter") })
)

func goBuild(to, from string, flags ...string) error {
	args := append([]string{"build", "-overlay", os.Getenv(overlayEnv), "-ldflags=-s -w"}, flags...) // no debugger reads them, and linking takes half the time
	args = append(args, "-o", to, from)
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("go %v: %w\n%s", args, err, out)
	}
	return nil
}

// random returns a source whose seed is printed.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	n := *seed
	if n == 0 {
		n = uint64(time.Now().UnixNano())
	}
	t.Logf("seed: go test ./internal/acceptance -run '^%s$' -args -seed %d", t.Name(), n)
	return rand.New(rand.NewPCG(n, n))
}

// choose is the size of a normal run, or of a full one.
func choose[T any](normal, large T) T {
	if *full {
		return large
	}
	return normal
}

// deck deals choices at random, and each as often as any other: what a test has to see
// is not left to luck.
type deck []string

func (d *deck) deal(rnd *rand.Rand, choices []string) string {
	if len(*d) == 0 {
		*d = slices.Clone(choices)
		rnd.Shuffle(len(*d), func(i, k int) { (*d)[i], (*d)[k] = (*d)[k], (*d)[i] })
	}
	last := len(*d) - 1
	dealt := (*d)[last]
	*d = (*d)[:last]
	return dealt
}

// durations are sorted when they are printed.
type durations []time.Duration

// at returns the quantile p, the largest for 1.
func (d durations) at(p float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return s[min(len(s)-1, int(p*float64(len(s))))]
}

func (d durations) String() string {
	r := func(p float64) time.Duration { return d.at(p).Round(100 * time.Nanosecond) }
	return fmt.Sprintf("n %d, median %v, p95 %v, p99 %v, p99.9 %v, max %v", len(d), r(.5), r(.95), r(.99), r(.999), r(1))
}

// contextOf ends with the test at the latest, and not before its cleanup.
func contextOf(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(context.WithoutCancel(t.Context()))
}
