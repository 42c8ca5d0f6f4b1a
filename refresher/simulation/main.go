// Command simulation tries the refresher's algorithm on days of traffic, faster
// than real time and without any server: it counts everything twice, by
// refresher/topn and by brute force, compares, and reports what the charts cost
// and how often one of them had to be rebased.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/alecthomas/kong"

	"github.com/topk-charts/topk/refresher/topn"
)

const description = `Simulate days of traffic through the refresher's charts and prove them exact.

Plays are made from a seed: songs of Zipf popularity that drifts, new releases,
flashes of an hour, hits of one country or city, day and night. Nothing is
stored: the plays that leave a window are made again from the same seed, a
window's length later. The windows are full from the start, so that every
minute counts.

Every chart (global, 60 countries, 4 devices, 4 segments and a sample of 3,781
cities, in each window) is kept twice, exactly by the algorithm and by brute
force, and compared every few minutes. One mismatch makes the exit code 1.

A rebase reads the chart from ClickHouse in production, so their rate is what
to watch; here brute force answers them. Times are CPU times of the algorithm
alone: without making plays, brute force and rebases.`

// A config is what to simulate.
type config struct {
	Days     float64  `help:"Days to simulate after the windows have been filled." default:"1"`
	Plays    float64  `help:"Plays a day." default:"10e6"`
	Exponent float64  `help:"Exponent of the popularity of songs: the k-th has k^-exponent of the plays of the first." default:"1"`
	Songs    int      `help:"Songs that are played." default:"1000000"`
	Windows  []string `help:"Windows, of 1h, 24h, 7d and today." default:"1h,24h,7d,today"`
	Flashes  int      `help:"Songs an hour that come from nowhere, to be played by a country or all of them for an hour or so." default:"1"`
	Cities   int      `help:"Keep every so manieth city, in the order of their sizes." default:"50"`
	Ticks    int      `help:"How often a minute charts must be right." default:"4"`
	Check    int      `help:"Compare with brute force every so many minutes." default:"30"`
	Seed     uint64   `help:"Other seeds make other plays." default:"1"`

	Candidates int `help:"Least candidates of a chart that is not complete." default:"${candidates}"`
	Complete   int `help:"Most candidates of a chart." default:"${complete}"`
	Pending    int `help:"Songs with pending plays above which the floor is raised." default:"${pending}"`
}

func (c config) limits() topn.Limits {
	limits := topn.DefaultLimits()
	limits.Candidates, limits.Complete, limits.Pending = c.Candidates, c.Complete, c.Pending
	return limits
}

// Validate is called by kong.
func (c config) Validate() error {
	switch {
	case !(c.Days > 0 && c.Days <= 1000):
		return errors.New("days must be above 0 and at most 1000")
	case !(c.Plays >= 1 && c.Plays <= 1e10):
		return errors.New("plays must be 1 to 1e10 a day")
	case !(c.Exponent >= 0.1 && c.Exponent <= 3):
		return errors.New("exponent must be 0.1 to 3")
	case c.Songs < 1000 || c.Songs > 1<<24:
		return errors.New("songs must be 1000 to 16777216")
	case c.Flashes < 0 || c.Flashes > 1000:
		return errors.New("flashes must be 0 to 1000 an hour")
	case c.Cities < 1 || c.Ticks < 1 || c.Check < 1 || c.Pending < 1:
		return errors.New("cities, ticks, check and pending must be at least 1")
	case c.Candidates < topn.DefaultLimits().N || c.Complete < c.Candidates:
		return fmt.Errorf("candidates must be at least %d, and complete at least that", topn.DefaultLimits().N)
	}
	return nil
}

func main() {
	limits := topn.DefaultLimits()
	var cfg config
	kong.Parse(&cfg, kong.Name("simulation"), kong.Description(description), kong.Vars{
		"candidates": fmt.Sprint(limits.Candidates),
		"complete":   fmt.Sprint(limits.Complete),
		"pending":    fmt.Sprint(limits.Pending),
	})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	mismatches, err := run(ctx, cfg, time.Now, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "simulation:", err)
		os.Exit(2)
	}
	if mismatches > 0 {
		os.Exit(1)
	}
}

// run simulates, shows progress, and writes the report, also when ctx ends
// early. It gives the number of comparisons that failed.
func run(ctx context.Context, cfg config, now func() time.Time, out, progress io.Writer) (mismatches int, err error) {
	s, err := newSimulation(cfg)
	if err != nil {
		return 0, err
	}
	start := now()
	shown := start
	show := func(state string) {
		if now().Sub(shown) >= 5*time.Second {
			shown = now()
			fmt.Fprintf(progress, "%s after %s, %d plays, %d rebases, %d comparisons, %d mismatches\n",
				state, now().Sub(start).Round(time.Second), s.plays, s.rebases(), s.comparisons, s.mismatches)
		}
	}
	s.fill(ctx, show)
	minutes := max(int(cfg.Days*minutesPerDay), 1)
	for i := 0; i < minutes && ctx.Err() == nil; i++ {
		s.minute()
		show(fmt.Sprintf("day %.2f of %g", float64(i+1)/minutesPerDay, cfg.Days))
	}
	s.compare()
	return s.mismatches, s.report(out, now().Sub(start))
}
