package main

import "github.com/spf13/cobra"

func (c *cli) consume() *cobra.Command {
	var o serviceOptions
	cmd := &cobra.Command{
		Use:   "consume",
		Short: "Write transcripts from the stream",
		Long: `Take turns from the stream into the transcripts under --data-dir, and keep Redis
up to date. Any number of consumers of one --group share the work and one folder.
Servers that cannot be reached are waited for.

--rebind takes the group over for this folder: the stream is replayed into it
first. It is for a lost disk, when no other member of the group runs.

SIGTERM, SIGINT or SIGHUP stops it: what was fetched is written and acknowledged.`,
		Example: `  afterword consume --data-dir /srv/afterword --nats-url nats://n1,nats://n2,nats://n3
  afterword consume --listen 127.0.0.1:8081`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.runService(cmd, o, func(b *builder) error {
				if o.listen != "" {
					if err := b.listen(); err != nil {
						return err
					}
				}
				if err := b.connect(); err != nil { // a server that refuses does so before folders are made
					return err
				}
				if err := b.openStore(); err != nil {
					return err
				}
				if err := b.consume(); err != nil {
					return err
				}
				if o.listen != "" {
					b.serveHTTP()
				}
				return nil
			})
		},
	}
	f := flags{cmd.Flags()}
	o.addCommon(f)
	o.nats.add(f, ownNATS)
	o.redis.add(f, ownRedis)
	o.addListen(f, "", "`ADDRESS` of /healthz, /readyz and /metrics; none given means that there is none")
	o.addConsumer(f)
	f.BoolVar(&o.rebind, "rebind", false, "take the group over for this folder")
	return cmd
}
