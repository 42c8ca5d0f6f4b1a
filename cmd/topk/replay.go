package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/topk-charts/topk/migrations"
)

type replayCommand struct {
	chainFlags
	LoseHistory bool `help:"Go on although charts lose what neither Kafka nor the log has any more."`
}

func (c *replayCommand) Help() string {
	return `Rebuilds the log, the rollups and everything else that is derived from plays from
the start of the topic: beside the live tables, which go on meanwhile, and then
in their place. For when they are damaged, or plays are to be judged anew by
other rules. What Kafka has deleted by now is carried over from the log.

Charts are exact before and after the switch, and stand still for about a
second at it. It may be killed at any moment: run it again. Segments are those
that users have today.

It takes about as much disk as the log and its rollups, for as long as it runs.`
}

func (c *replayCommand) Validate() error { return c.chainFlags.check() }

func (c *replayCommand) Run(ctx context.Context, log *slog.Logger, terminal console) error {
	admin, err := kafkaAdmin(c.KafkaBrokers)
	if err != nil {
		return err
	}
	defer admin.Close()
	id, err := topicID(ctx, admin, c.Topic)
	if err != nil {
		return err
	}
	start := time.Now()
	progress, done := showProgress(terminal.err, "replay", log)
	err = migrations.Replay(ctx, c.ClickhouseURL, c.wiring(id), migrations.ReplayOptions{
		Kafka: admin, LoseHistory: c.LoseHistory, Progress: progress,
	})
	done()
	if err != nil {
		return err
	}
	fmt.Fprintf(terminal.out, "replayed topic %s in %s\n", c.Topic, time.Since(start).Round(time.Second))
	return nil
}
