package queries

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/topk-charts/topk"
)

// Limits bound what one statement may cost. Zero is no limit.
type Limits struct {
	Rows   uint64 // that are read, of the log and of rollups
	Memory uint64 // in bytes
}

// WithLimits refuses statements that would cost more, as an ErrInvalid that says
// what to ask instead. ClickHouse compares what a statement is going to read of
// each table with the limit before it begins, and what it has read in all with
// it from then on.
func WithLimits(l Limits) Option { return func(db *DB) { db.limits = l } }

func (l Limits) settings() clickhouse.Settings {
	s := clickhouse.Settings{}
	if l.Rows > 0 {
		s["max_rows_to_read"] = l.Rows
	}
	if l.Memory > 0 {
		s["max_memory_usage"] = l.Memory
	}
	return s
}

// tooMuch is a statement that was refused for its cost.
type tooMuch struct {
	memory bool // and not rows
	cause  error
}

func (e *tooMuch) Error() string { return "too much for one statement: " + e.cause.Error() }

// Unwrap makes it an ErrInvalid; what is asked knows more to say (see instead).
func (e *tooMuch) Unwrap() []error {
	return []error{topk.FieldErrors{{Message: "this is more than may be counted at once: ask for a shorter window"}}, e.cause}
}

// exceeds tells the refusals of Limits.
func exceeds(e *clickhouse.Exception) bool {
	return e.Code == tooManyRows || e.Code == memoryLimitExceeded && strings.Contains(e.Message, "Query memory limit exceeded")
}

// instead turns the refusal of a chart's statement into one that says how much
// it was, how much may be, and what to ask instead. Other errors stay.
func (db *DB) instead(ctx context.Context, err error, q topk.ChartQuery, c clauses, sql string, args []any) error {
	refused, ok := errors.AsType[*tooMuch](err)
	if !ok {
		return err
	}
	if limit := db.limits; refused.memory && limit.Memory == 0 || !refused.memory && limit.Rows == 0 {
		return err // ClickHouse has limits of its own for this user
	}
	var message string
	ask := []string{"a shorter window"}
	if refused.memory {
		message = fmt.Sprintf("this would take more than the %d MiB of memory that one chart may take", db.limits.Memory>>20)
		if !c.Listeners && q.After == nil {
			ask = append(ask, "an approximate chart (mode=approx)")
		}
	} else {
		message = fmt.Sprintf("this would read more than the %s rows of plays that one chart may read", millions(db.limits.Rows))
		if rows := db.estimate(ctx, sql, args); rows > db.limits.Rows {
			message = fmt.Sprintf("this would read about %s rows of plays, of the %s that one chart may read", millions(rows), millions(db.limits.Rows))
			if fits := fitting(q.Window.At(q.Now, db.calendar), float64(db.limits.Rows)/float64(rows)); fits != "" {
				ask[0] = "a window of at most " + fits
			}
		}
		if len(c.Stored) > 1 {
			ask = append(ask, "a filter with only one of region, segment, device, playlist and album, which are counted by the hour")
		}
	}
	if c.Listeners {
		ask = append(ask, "plays instead of listeners")
	}
	return errors.Join(topk.FieldErrors{{Message: message + "; ask for " + strings.Join(ask, ", or ")}}, err)
}

// estimateTimeout bounds what it takes to find out the size of a statement that
// was refused.
const estimateTimeout = 2 * time.Second

// estimate is how many rows a statement is going to read, 0 if that is unknown.
func (db *DB) estimate(ctx context.Context, sql string, args []any) (rows uint64) {
	ctx, cancel := context.WithTimeout(ctx, estimateTimeout)
	defer cancel()
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"max_rows_to_read": 0}))
	err := db.scan(ctx, "EXPLAIN ESTIMATE "+sql, args, func(r driver.Rows) error {
		var database, table string
		var parts, n, marks uint64
		if err := r.Scan(&database, &table, &parts, &n, &marks); err != nil {
			return err
		}
		rows += n
		return nil
	})
	if err != nil {
		return 0 // it only makes the message better
	}
	return rows
}

// fitting is the share of the span, or of as much of it as the log keeps, in
// words; "" when it is next to nothing.
func fitting(s topk.Span, share float64) string {
	length := time.Duration(float64(min(s.End.Sub(s.Start), LogRetention)) * share)
	switch {
	case length >= 2*day:
		return fmt.Sprintf("%d days", length/day)
	case length >= 2*time.Hour:
		return fmt.Sprintf("%d hours", length/time.Hour)
	case length >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", length/time.Minute)
	}
	return ""
}

// millions writes a number of rows with as much precision as it has meaning.
func millions(rows uint64) string {
	switch {
	case rows < 1_000_000:
		return strconv.FormatUint(rows, 10)
	case rows < 10_000_000:
		return fmt.Sprintf("%.1f million", float64(rows)/1e6)
	}
	return fmt.Sprintf("%d million", (rows+500_000)/1_000_000)
}
