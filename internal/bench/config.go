package bench

import (
	"cmp"
	"errors"
	"fmt"
	"os"
)

// Defaults of a [Config].
const (
	DefaultRuns = 5
)

// Config is what every benchmark is told.
type Config struct {
	// Runs is how often everything is measured; zero means [DefaultRuns].
	Runs int
	// Dir is where the scratch folder is made; "" means the system's folder for
	// temporary files. It should be on the kind of disk that will be used.
	Dir string
	// NATSServer is the path of a nats-server; "" means the one in this program.
	NATSServer string
	// Self is the command that runs this program's [ServeNATS] and [Work]: their
	// names, "nats-server" and "worker", are appended. Nil means this program's "bench".
	Self []string
	// Profile is a folder for CPU profiles of what is measured; "" means none.
	Profile string
	// Progress, if set, is told how far the work is that it names. It does not block.
	Progress func(what string, done, total int)
	// Say, if set, is told in a line what people should know before a benchmark begins.
	Say func(line string)
}

func (c Config) withDefaults() (Config, error) {
	c.Runs = cmp.Or(c.Runs, DefaultRuns)
	if c.Runs < 1 {
		return c, errors.New("bench: at least one run is needed")
	}
	if c.Self == nil {
		exe, err := os.Executable()
		if err != nil {
			return c, fmt.Errorf("bench: find this program: %w", err)
		}
		c.Self = []string{exe, "bench"}
	}
	if c.Progress == nil {
		c.Progress = func(string, int, int) {}
	}
	if c.Say == nil {
		c.Say = func(string) {}
	}
	return c, nil
}
