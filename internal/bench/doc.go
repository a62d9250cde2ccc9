// Package bench measures what afterword exists for: how fast turns are stored,
// written and rebuilt, and what a long session costs.
//
// Every benchmark measures a baseline and a floor beside afterword, in the same
// run and on the same machine, and what it promises are ratios between them: a
// ratio holds where a rate does not. Rounds are repeated; a [Measure] has the
// median and the spread, and beside it the figure to reach.
//
// Servers are processes of their own and sync every message. What is measured
// for its memory runs in a process of its own too, a worker: this program, started
// again. Every round gets a fresh folder, and nothing is deleted before the last
// figure is there, because ext4 creates files slowly for minutes after thousands
// were unlinked. The scratch folder is removed at the end, whatever that is.
//
// On failure: a benchmark that cannot do all of its work is an error, never a
// figure. Each checks that all turns arrived where they should.
package bench
