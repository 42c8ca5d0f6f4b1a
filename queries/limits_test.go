package queries_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/queries"
)

// What would cost more than is allowed is refused, with what to ask instead;
// what the rollups serve is not.
func TestLimits(t *testing.T) {
	c := newChain(t)
	c.append(0, randomPlays(1, 30_000)...)
	c.fill("rollup_hour")
	c.fill("rollup_day")
	c.exec("OPTIMIZE TABLE rollup_hour FINAL")
	c.exec("OPTIMIZE TABLE rollup_day FINAL")
	// Otherwise ClickHouse looks at the memory of small statements too rarely.
	dsn, err := url.Parse(c.env.DSN)
	if err != nil {
		t.Fatal(err)
	}
	dsn.RawQuery = "max_untracked_memory=1"
	open := func(l queries.Limits) *queries.DB {
		db, err := queries.Open(dsn.String(), topk.DefaultCalendar(), queries.WithLimits(l))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		return db
	}
	rows, memory := open(queries.Limits{Rows: 20_000}), open(queries.Limits{Memory: 1 << 20})
	hours, err := topk.Between(now.Truncate(time.Hour).Add(-168*time.Hour), now.Truncate(time.Hour).Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	country := topk.Term{Dim: topk.DimRegion, Value: "IN"}
	joined := topk.NewFilter(country, topk.Term{Dim: topk.DimDevice, Value: "mobile"})
	chart, listeners := (*queries.DB).Chart, (*queries.DB).Listeners
	tests := map[string]struct {
		db      *queries.DB
		ask     func(*queries.DB, context.Context, topk.ChartQuery) (topk.Chart, error)
		filter  topk.Filter
		refused []string // what the refusal says
	}{
		"of a rollup":             {rows, chart, topk.NewFilter(country), nil},
		"of the log":              {rows, chart, joined, []string{"about 30000 rows", "of the 20000", "at most 4 days", "only one of region"}},
		"listeners":               {rows, listeners, topk.Filter{}, []string{"about 30000 rows", "at most 4 days", "plays instead of listeners"}},
		"without limits":          {c.db, chart, joined, nil},
		"with little memory":      {memory, chart, topk.Filter{}, []string{"1 MiB", "a shorter window", "mode=approx"}},
		"listeners, of no memory": {memory, listeners, topk.Filter{}, []string{"1 MiB", "plays instead of listeners"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := test.ask(test.db, t.Context(), topk.ChartQuery{Filter: test.filter, Window: hours, K: 10, Now: now})
			if test.refused == nil {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			var fields topk.FieldErrors
			if !errors.As(err, &fields) || errors.Is(err, topk.ErrUnavailable) {
				t.Fatalf("%v, want it refused", err)
			}
			for _, part := range test.refused {
				if !strings.Contains(fields.Error(), part) {
					t.Errorf("refused with %q, which does not say %q", fields, part)
				}
			}
		})
	}
}
