// Package metrics shows what the parts of afterword have counted, to Prometheus.
//
// The contract: every name begins with afterword_, base units are seconds and
// bytes, totals end in _total, and no label holds an id. A collector asks its part
// at each scrape and keeps nothing itself; a part that starts anew starts from
// zero, as Prometheus expects of a new process.
//
// On failure: nothing here waits or fails; the functions that give the figures
// must not wait either.
package metrics
