package main

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// A short simulation with tight limits, in which charts are trimmed, floors
// rise and charts are rebased: no chart ever differs from brute force.
func TestChartsEqualBruteForce(t *testing.T) {
	cfg := config{
		Days: 0.1, Plays: 300_000, Exponent: 1, Songs: 3_000, Windows: []string{"1h", "24h", "today"},
		Flashes: 6, Cities: 400, Ticks: 2, Check: 20, Seed: 1, Candidates: 220, Complete: 900, Pending: 300,
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	s, err := newSimulation(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.now += minutesPerDay - 30 // midnight comes soon
	s.fill(t.Context(), func(string) {})
	for range int(cfg.Days * minutesPerDay) {
		s.minute()
	}
	s.compare()
	incomplete := 0
	for _, w := range s.windows {
		for _, k := range w.charts {
			if !k.chart.Stats().Complete {
				incomplete++
			}
		}
	}
	t.Logf("%d plays, %d comparisons, %d rebases, %d charts that are not complete", s.plays, s.comparisons, s.rebases(), incomplete)
	if s.mismatches > 0 {
		t.Errorf("%d of %d comparisons failed", s.mismatches, s.comparisons)
	}
	if s.rebases() == 0 || incomplete == 0 {
		t.Error("no bound was put to the test")
	}
}

func TestReport(t *testing.T) {
	cfg := config{
		Days: 0.01, Plays: 100_000, Exponent: 0.8, Songs: 2_000, Windows: []string{"1h"},
		Flashes: 1, Cities: 1000, Ticks: 1, Check: 5, Seed: 2, Candidates: 400, Complete: 20_000, Pending: 4_000,
	}
	var out bytes.Buffer
	mismatches, err := run(t.Context(), cfg, func() time.Time { return time.Time{} }, &out, io.Discard)
	if err != nil || mismatches != 0 {
		t.Fatalf("%d mismatches, error %v", mismatches, err)
	}
	for _, want := range []string{"chart updates", "mismatches", "country", "extrapolated"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report does not say %q:\n%s", want, out.String())
		}
	}
}

// What leaves a window must be what entered it.
func TestAMinuteIsMadeTheSameAgain(t *testing.T) {
	cfg := config{Plays: 1e6, Exponent: 1.2, Songs: 5_000, Seed: 3}
	g := newGenerator(cfg)
	const minute = firstMinute + 777
	first := g.minute(minute, nil)
	if again := newGenerator(cfg).minute(minute, nil); !slices.Equal(first, again) {
		t.Errorf("%d plays at first, then %d others", len(first), len(again))
	}
	if other := g.minute(minute+1, nil); slices.Equal(first, other) {
		t.Error("two minutes are alike")
	}
	for _, p := range first {
		if int(p.song) >= cfg.Songs || int(p.city) >= cities || p.country >= countries {
			t.Fatalf("play %+v", p)
		}
	}
}
