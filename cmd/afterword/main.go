// Command afterword keeps the transcripts of chat sessions without making any
// reply wait for them. A chat API publishes each turn to a NATS JetStream stream
// and answers; consumers write one transcript file per session and keep recent
// histories in Redis; and the stream can rebuild any transcript, byte for byte.
//
// `afterword serve` is all of it in one process. `gateway` and `consume` are its
// two halves, for several machines. The other commands look at what is there, or
// repair it.
//
// This package is the only place that reads flags, environment and signals, and
// that ends the process. Exit codes: 0 done, 1 failed or differs, 2 usage or
// trouble, 130 interrupted. Data goes to standard output, logs and progress to
// standard error; an error is one line that says what to do.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.LookupEnv))
}
