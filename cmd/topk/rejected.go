package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api"
	"github.com/topk-charts/topk/loader"
	"github.com/topk-charts/topk/queries"
)

type rejectedCommand struct {
	Once   bool `help:"Do it now, once."`
	DryRun bool `help:"Only tell what would be sent, and what is wrong with the rest."`
	JSON   bool `name:"json" help:"With --dry-run: print every message as a line of NDJSON, to be edited and given to --from."`

	Since     string `help:"Only what was rejected since then: a time as 2026-01-31T12:00:00Z, or how long ago, as 24h." group:"Which messages"`
	Until     string `help:"Only what was rejected before then." group:"Which messages"`
	Reason    string `help:"Only when this is part of the reason, in upper or lower case." group:"Which messages"`
	Partition *int32 `help:"Only of this partition of the topic." group:"Which messages"`
	EventID   string `name:"event-id" help:"Only messages of this event." group:"Which messages"`
	Again     bool   `help:"Also those whose event was sent again before and was rejected again." group:"Which messages"`

	Drop      []string `help:"Optional fields to leave out where they are wrong: region, deviceType, context, duration." placeholder:"FIELD,…" group:"Corrections"`
	HashUsers bool     `help:"Hash user ids that came in the clear, with the pepper." group:"Corrections"`
	From      string   `help:"NDJSON file with corrected plays, or - for standard input: {\"topic\":…,\"partition\":…,\"offset\":…,\"play\":{…}}." placeholder:"FILE" group:"Corrections"`

	topicFlag
	ruleFlags
	clickhouseFlags
	brokerFlags
	pepperFlags
}

func (c *rejectedCommand) Help() string {
	return `Messages that break a rule are kept for 14 days; GET /v1/admin/rejected lists
them. This sends again, through Kafka and under the same event id, those that are
plays by today's rules, in their normal form; each once. None can count twice,
whatever is killed meanwhile, however often it is run, and also when its producer
has sent it again correctly by then.

  topk load rejected --dry-run                         what is there, and what would be sent
  topk load rejected --once                            send what is acceptable as it is
  topk load rejected --once --drop region --since 24h  without the region, where that is wrong
  topk load rejected --once --hash-users               user ids that came in the clear

By hand:

  topk load rejected --dry-run --json --reason songId > wrong.ndjson
  $EDITOR wrong.ndjson                                 # correct each "play"
  topk load rejected --once --from wrong.ndjson

The limits --max-age and --max-ahead must be those of topk migrate. Plays that are
too old by now cannot be sent this way: load them by backfill.`
}

func (c *rejectedCommand) Validate() error {
	var errs []error
	if !c.Once && !c.DryRun {
		errs = append(errs, errors.New("topk load rejected needs --once (or --dry-run); it has no schedule of its own yet"))
	}
	if c.JSON && !c.DryRun {
		errs = append(errs, errors.New("--json goes with --dry-run"))
	}
	for _, field := range c.Drop {
		if !slices.Contains(loader.Optional, field) {
			errs = append(errs, fmt.Errorf("--drop: %q is not one of %s", field, strings.Join(loader.Optional, ", ")))
		}
	}
	if c.From != "" && (c.Since != "" || c.Until != "" || c.Reason != "" || c.Partition != nil || c.EventID != "") {
		errs = append(errs, errors.New("--from names its messages: --since, --until, --reason, --partition and --event-id do not go with it"))
	}
	if _, err := c.filter(time.Now()); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(append(errs, c.ruleFlags.check(), c.clickhouseFlags.check(), c.brokerFlags.check())...)
}

// filter reads which messages are meant.
func (c *rejectedCommand) filter(now time.Time) (topk.RejectedFilter, error) {
	from, fromErr := instantOrAgo("--since", c.Since, now)
	to, toErr := instantOrAgo("--until", c.Until, now)
	var partitionErr, eventErr error
	if c.Partition != nil && (*c.Partition < 0 || *c.Partition > 0xffff) {
		partitionErr = fmt.Errorf("--partition must be from 0 to 65535, not %d", *c.Partition)
	}
	if c.EventID != "" && !topk.IsEventID(c.EventID) {
		eventErr = fmt.Errorf("--event-id: %q is no event id", c.EventID)
	}
	return topk.RejectedFilter{From: from, To: to, Reason: c.Reason, Partition: c.Partition, EventID: c.EventID},
		errors.Join(fromErr, toErr, partitionErr, eventErr)
}

// instantOrAgo reads an RFC 3339 time or a duration before now; "" is none.
func instantOrAgo(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s must be a time as 2026-01-31T12:00:00Z, or how long ago, as 24h: not %q", flag, text)
	}
	return t, nil
}

func (c *rejectedCommand) Run(ctx context.Context, log *slog.Logger, terminal console) (err error) {
	now := time.Now()
	filter, err := c.filter(now)
	if err != nil {
		return err
	}
	db, err := queries.Open(c.ClickhouseURL, topk.DefaultCalendar())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	job := loader.Rejected{Queries: db, Rules: c.rules(), Clock: time.Now, Filter: filter, Drop: c.Drop, Again: c.Again}
	if c.HashUsers {
		if job.Pepper, err = c.pepper(); err != nil {
			return err
		}
	}
	if !c.DryRun {
		publisher, err := api.NewPublisher(api.PublisherConfig{Brokers: c.KafkaBrokers, Topic: c.Topic})
		if err != nil {
			return err
		}
		defer publisher.Close()
		job.Publisher = publisher
	}
	summary := terminal.out
	if c.JSON {
		summary = terminal.err // the lines are what is printed
		lines := json.NewEncoder(terminal.out)
		lines.SetEscapeHTML(false)
		job.Each = func(line loader.ReplayLine) error { return lines.Encode(line) }
	}
	report, err := c.run(ctx, job, terminal)
	log.Debug("rejected messages", "messages", report.Messages, "sent", report.Sent, "took", time.Since(now))
	return errors.Join(report.WriteText(summary), err)
}

func (c *rejectedCommand) run(ctx context.Context, job loader.Rejected, terminal console) (loader.ReplayReport, error) {
	switch c.From {
	case "":
		return job.Run(ctx)
	case "-":
		return job.RunFrom(ctx, terminal.in)
	}
	in, err := os.Open(c.From)
	if err != nil {
		return loader.ReplayReport{}, fmt.Errorf("--from: %w", err)
	}
	defer in.Close()
	report, err := job.RunFrom(ctx, in)
	if err != nil {
		err = fmt.Errorf("%s: %w", c.From, err)
	}
	return report, err
}
