package main

import "github.com/spf13/cobra"

// defaultConsole is where `console` listens: beside a `serve` of the same machine.
const defaultConsole = "127.0.0.1:8090"

func (c *cli) consoleCommand() *cobra.Command {
	var o serviceOptions
	cmd := &cobra.Command{
		Use:   "console",
		Short: "Show a page for operators",
		Long: `Serve the console, a page for a browser: what is wrong and what helps, how far
consumers are behind, sessions and their transcripts, dead letters, replays, and turns
as they come. It connects to NATS and Redis, and shows and replays the transcripts under
--data-dir if that folder is there. "serve" has it too, under /console/.

There is no access control: whoever can connect can read what people wrote, and change
things unless --read-only is given. So it listens on loopback; put a proxy that asks who
is there in front of it.`,
		Example: `  afterword console
  afterword console --nats-url nats://n1,nats://n2,nats://n3 --redis-url redis://cache:6379 --read-only
  afterword console --service gw1:8080 --service gw2:8080
  afterword console --base-path /afterword --allowed-hosts ops.example.org`,
		Args: noArgs,
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
				if err := b.makeConsole(); err != nil {
					return err
				}
				// It makes no streams and works without Redis: its page shows what is wrong with either.
				b.streams.Store(nil) // so it does not say that they passed a check
				delete(b.ready, partRedis)
				b.serveHTTP()
				b.runConsole()
				return nil
			})
		},
	}
	f := flags{cmd.Flags()}
	o.store.add(f)
	o.nats.add(f, ownNATS)
	o.redis.add(f, ownRedis)
	o.addListen(f, defaultConsole, "`ADDRESS` of the console")
	o.store.addReaders(f)
	o.store.addLimit(f)
	o.console.add(f)
	f.StringSliceVar(&o.services, "service", nil, "`ADDRESS` of a service of which /readyz is asked too; may be given again")
	o.addProcess(f)
	return cmd
}
