package main

import "github.com/spf13/cobra"

func (c *cli) gateway() *cobra.Command {
	var o serviceOptions
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Run the HTTP API in front of the stream",
		Long: `Take turns in over HTTP and publish them, and answer histories: from Redis, then
from the transcripts under --data-dir if that folder is there, then from the
stream. Servers that cannot be reached are waited for. Turns that the stream does not
take are kept in --spool-dir too, and published at the next start.

SIGTERM, SIGINT or SIGHUP stops it: requests are answered and accepted turns stored within
--drain-timeout. Exit code 1 says that turns were left that are not in the spool.`,
		Example: `  afterword gateway --allowed-hosts chat.example.org --nats-url nats://n1,nats://n2,nats://n3 --redis-url redis://cache:6379`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.runService(cmd, o, func(b *builder) error {
				if err := b.listen(); err != nil {
					return err
				}
				if err := b.lookForStore(); err != nil {
					return err
				}
				if err := b.connect(); err != nil {
					return err
				}
				b.keepStreams()
				if err := b.answer(); err != nil {
					return err
				}
				b.serveHTTP()
				return nil
			})
		},
	}
	f := flags{cmd.Flags()}
	o.addCommon(f)
	o.nats.add(f, ownNATS)
	o.redis.add(f, ownRedis)
	o.addListen(f, defaultListen, "`ADDRESS` of the HTTP API")
	o.addGateway(f, "spool/ under --data-dir")
	return cmd
}
