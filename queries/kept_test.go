package queries_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/topk-charts/topk"
)

// Windows that would need plays or hours that are not kept any more are refused,
// with what to ask instead; those that need none are not.
func TestWindowsOfWhatIsNotKept(t *testing.T) {
	const day = 24 * time.Hour
	midnight := now.Truncate(day)
	played := midnight.Add(-450 * day)
	tests := map[string]struct {
		counted time.Time // when the first play was
		from    time.Time
		refused string
	}{
		"days":                            {played, played, ""},
		"hours":                           {played, played.Add(5 * time.Hour), "from and to must be whole days"},
		"hours that are kept":             {played, midnight.Add(-300*day + time.Hour), ""},
		"minutes":                         {played, midnight.Add(-300*day + time.Minute), "from and to must be whole hours"},
		"hours, of a backfill a week ago": {midnight.Add(-7 * day), played.Add(5 * time.Hour), ""},
		"minutes, of that":                {midnight.Add(-7 * day), played.Add(5 * time.Minute), "from and to must be whole hours"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := newChain(t)
			c.exec("INSERT INTO rollup_day (dim, val, songId, ts, plays, week) SELECT 'global', '', 's', {ts:DateTime}, 3, toMonday({week:Date})",
				clickhouse.Named("ts", played.Format(time.DateTime)), clickhouse.Named("week", test.counted.Format(time.DateOnly)))
			w, err := topk.Between(test.from, midnight)
			if err != nil {
				t.Fatal(err)
			}
			chart, err := c.db.Chart(t.Context(), topk.ChartQuery{Window: w, K: 10, Now: now})
			if test.refused == "" {
				if err != nil || test.from.Equal(played) && chart.TotalPlays != 3 {
					t.Errorf("%d plays, %v", chart.TotalPlays, err)
				}
				return
			}
			var fields topk.FieldErrors
			if !errors.As(err, &fields) || !strings.Contains(fields.Error(), test.refused) {
				t.Errorf("%v, want it refused: %s", err, test.refused)
			}
		})
	}
}
