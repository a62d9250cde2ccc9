package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (c *cli) serve() *cobra.Command {
	var o serviceOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run everything in one process",
		Long: `Run gateway, consumer and console in one process, on an embedded NATS JetStream server and
an embedded Redis-compatible server unless URLs are given. All data is under
--data-dir: nats/ (the stream) and transcripts/, with --nats-url spool/, and credentials,
without which the embedded servers take no connection: commands with the same
--data-dir find them, other programs may read the file as environment variables.

SIGTERM, SIGINT or SIGHUP stops it: requests, publisher and consumer finish within
--drain-timeout, and it exits with 0. A second SIGTERM or SIGINT ends it at once.`,
		Example: `  afterword serve --data-dir /var/lib/afterword
  curl --json '{"user":"Hi","assistant":"Hello."}' http://127.0.0.1:8080/v1/sessions/abc/turns
  curl http://127.0.0.1:8080/v1/sessions/abc/history`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.runService(cmd, o, func(b *builder) error {
				if err := b.listen(); err != nil {
					return err
				}
				if err := b.checkEmbedded(); err != nil {
					return err
				}
				if err := b.connectGiven(); err != nil {
					return err
				}
				if err := b.openStore(); err != nil {
					return err
				}
				if err := b.startEmbedded(); err != nil {
					return err
				}
				if err := b.connect(); err != nil {
					return err
				}
				if err := b.consume(); err != nil {
					return err
				}
				if err := b.answer(); err != nil {
					return err
				}
				if err := b.makeConsole(); err != nil {
					return err
				}
				b.serveHTTP()
				b.runConsole()
				if o.logs.format == formatText {
					fmt.Fprintf(c.stderr, "afterword serves http://%s, with its data in %s\n", b.listener.Addr(), o.store.dir)
					fmt.Fprintf(c.stderr, "its console is at http://%s/console/\n", b.listener.Addr())
				}
				return nil
			})
		},
	}
	f := flags{cmd.Flags()}
	o.addCommon(f)
	o.nats.add(f, "the embedded server")
	o.redis.add(f, "the embedded server")
	o.addEmbedded(f)
	o.addListen(f, defaultListen, "`ADDRESS` of the HTTP API")
	o.addGateway(f, "spool/ under --data-dir with --nats-url, and no spool with the embedded server")
	o.addConsumer(f)
	o.console.add(f)
	return cmd
}
