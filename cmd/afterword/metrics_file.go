package main

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/afterword-io/afterword/internal/folder"
)

// metricsEvery is how often a long command writes its metrics file anew.
const metricsEvery = 5 * time.Second

// metricsFile is where a one-shot command leaves its figures: Prometheus cannot ask
// a process that has ended how it went, so the textfile collector of node_exporter does.
type metricsFile struct{ path string }

func (o *metricsFile) add(f flags, what string) {
	f.StringVar(&o.path, "metrics-file", "", "keep the progress of the "+what+", and in the end its result, in this `FILE` for the textfile collector of node_exporter, as in /var/lib/node_exporter/afterword.prom")
}

// keep writes the file now and every few seconds until the returned function is
// called, which writes it for the last time. The file is replaced in one step. Only at the
// beginning and in the end is it an error that it cannot be written.
func (o *metricsFile) keep(figures prometheus.Collector, log *slog.Logger) (written func() error, err error) {
	if o.path == "" {
		return func() error { return nil }, nil
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(figures)
	write := func() error {
		if err := prometheus.WriteToTextfile(o.path, reg); err != nil {
			return fmt.Errorf("--metrics-file: %w: name a file in a folder that is there and can be written", err)
		}
		if err := folder.Inherit(o.path); err != nil {
			return fmt.Errorf("--metrics-file: %w", err)
		}
		return nil
	}
	if err := write(); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		tick := time.NewTicker(metricsEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if err := write(); err != nil {
				log.Warn("the progress could not be written", "error", err)
			}
		}
	})
	return func() error {
		close(done)
		writer.Wait()
		return write()
	}, nil
}
