package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/topk-charts/topk/simulate"
)

type simulateCommand struct {
	Plays    playsCommand   `cmd:"" default:"withargs" help:"Send plays in the real proportions of every country."`
	History  historyCommand `cmd:"" help:"Print plays of past days as NDJSON, for topk load backfill."`
	Catalog  songsCommand   `cmd:"" help:"Print the catalog of those songs as NDJSON, for topk load catalog."`
	Segments usersCommand   `cmd:"" help:"Print the segments of the simulated users as NDJSON, for topk load segments."`
	Probe    probeCommand   `cmd:"" help:"Measure how long acknowledged plays take to show in served charts."`
}

type chartsFlag struct {
	Charts string `help:"CSV of weekly charts that plays are made from." type:"path" default:"testdata/weekly-charts-72-regions-with-genre.csv" env:"TOPK_CHARTS"`
}

func (f chartsFlag) load() (*simulate.Charts, error) {
	file, err := os.Open(f.Charts)
	if err != nil {
		return nil, fmt.Errorf("--charts: %w", err)
	}
	defer file.Close()
	charts, err := simulate.Load(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Charts, err)
	}
	return charts, nil
}

type playsCommand struct {
	chartsFlag
	URL        string        `help:"API to send to." default:"http://127.0.0.1:8080" env:"TOPK_URL"`
	Rate       float64       `help:"Plays a second; 0 is as fast as they are taken." default:"1157"`
	Duration   time.Duration `help:"How long to send; 0 is until Ctrl-C."`
	Count      uint64        `help:"How many plays to send; 0 is no limit."`
	Seed       uint64        `help:"Makes the same plays again; 0 takes a new seed."`
	Users      int           `help:"Users that listen." default:"50000"`
	Cities     int           `help:"Cities in all, the others made up; 0 is the real ones."`
	Songs      int           `help:"Songs beside those of the charts, that share 30 % of the plays; see topk simulate catalog --songs."`
	Drift      bool          `help:"Have the popularity of songs move, over minutes and hours."`
	Bursts     bool          `help:"Have one song played by many for a minute, now and then."`
	Late       float64       `help:"Share of plays that arrive late, 0 to 1." default:"0.01"`
	Duplicates float64       `help:"Share of plays that are sent twice, 0 to 1." default:"0.01"`
	Encoding   string        `help:"Compression of the batches." enum:"identity,gzip,zstd" default:"zstd"`
}

func (c *playsCommand) Run(ctx context.Context, terminal console) error {
	charts, err := c.load()
	if err != nil {
		return err
	}
	seed := c.Seed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	generator, err := simulate.NewGenerator(charts, simulate.Options{
		Seed: seed, Clock: time.Now, Users: c.Users, LateShare: c.Late, DuplicateShare: c.Duplicates,
		Cities: c.Cities, Tail: c.Songs, Drift: c.Drift, Bursts: c.Bursts,
	})
	if err != nil {
		return err
	}
	encoding, err := simulate.ParseEncoding(c.Encoding)
	if err != nil {
		return err
	}
	options := simulate.SendOptions{
		Target: simulate.Target{URL: c.URL}, Rate: c.Rate, Plays: c.Count, Duration: c.Duration, Encoding: encoding,
	}
	update, done := simulate.Progress(os.Stderr, options)
	options.OnProgress = update
	report, err := simulate.Send(ctx, generator.Next, options)
	done()
	fmt.Fprintf(terminal.out, "seed %d: %s\n", seed, report)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// historyCommand makes the plays of days that are over.
type historyCommand struct {
	chartsFlag
	Days  int    `help:"How many days, up to yesterday." default:"21"`
	Plays int    `help:"How many plays a day." default:"10000"`
	Seed  uint64 `help:"Makes the same plays again, if it is the same day." default:"1"`
	Users int    `help:"Users that listen." default:"50000"`
}

func (c *historyCommand) Validate() error {
	if c.Days < 1 || c.Days > 3650 || c.Plays < 1 || c.Plays > 100_000_000 {
		return errors.New("--days must be 1 to 3650, and --plays 1 to 100000000")
	}
	return nil
}

func (c *historyCommand) Run(ctx context.Context, terminal console) error {
	charts, err := c.load()
	if err != nil {
		return err
	}
	end := time.Now().UTC().Truncate(24 * time.Hour)
	at := end.AddDate(0, 0, -c.Days)
	generator, err := simulate.NewGenerator(charts, simulate.Options{
		Seed: c.Seed, Clock: func() time.Time { return at }, Users: c.Users, Drift: true,
	})
	if err != nil {
		return err
	}
	lines := bufio.NewWriter(terminal.out)
	out := json.NewEncoder(lines)
	pause := 24 * time.Hour / time.Duration(c.Plays)
	for ; at.Before(end) && ctx.Err() == nil; at = at.Add(pause) {
		if err := out.Encode(generator.Next()); err != nil {
			return err
		}
	}
	return errors.Join(lines.Flush(), ctx.Err())
}

type songsCommand struct {
	chartsFlag
	Songs int `help:"How many songs beside those of the charts."`
}

func (c *songsCommand) Validate() error {
	if c.Songs < 0 || c.Songs > simulate.MaxTail {
		return fmt.Errorf("--songs must be 0 to %d", simulate.MaxTail)
	}
	return nil
}

func (c *songsCommand) Run(terminal console) error {
	charts, err := c.load()
	if err != nil {
		return err
	}
	out := json.NewEncoder(terminal.out)
	for _, song := range append(charts.Catalog(), charts.Tail(c.Songs)...) {
		if err := out.Encode(song); err != nil {
			return err
		}
	}
	return nil
}

type usersCommand struct {
	Users int `help:"How many users." default:"50000"`
}

func (c *usersCommand) Run(terminal console) error {
	return simulate.WriteSegments(terminal.out, c.Users)
}

type probeCommand struct {
	URL         string        `help:"API to measure." default:"http://127.0.0.1:8080" env:"TOPK_URL"`
	Duration    time.Duration `help:"How long to measure." default:"1m"`
	CountryOnly bool          `help:"Leave out the global chart, where the probe needs many plays to be seen."`
}

func (c *probeCommand) Run(ctx context.Context, terminal console) error {
	report, err := simulate.Probe(ctx, simulate.ProbeOptions{
		Target: simulate.Target{URL: c.URL}, Clock: time.Now, Duration: c.Duration, CountryOnly: c.CountryOnly,
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(terminal.out, report)
	return nil
}
