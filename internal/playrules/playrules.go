// Package playrules holds the rules of plays as SQL, for every statement that
// judges plays inside ClickHouse: they are those of topk.ParsePlay.
package playrules

import (
	_ "embed"
	"time"

	"github.com/topk-charts/topk"
)

// Templates are the parts of statements that judge plays, as definitions for
// text/template. They take Values.
//
//go:embed rules.sql
var Templates string

// Values are what the templates need to know.
type Values struct {
	MaxAheadMillis, MaxAgeMillis int64
	MinPlaySeconds               int
	Countries                    []string
}

// ValuesOf takes them from the rules.
func ValuesOf(rules topk.Rules, minPlaySeconds int) Values {
	return Values{
		MaxAheadMillis: rules.MaxAhead.Milliseconds(),
		MaxAgeMillis:   rules.MaxAge.Milliseconds(),
		MinPlaySeconds: minPlaySeconds,
		Countries:      topk.Countries(),
	}
}

// Grace is what the chain lets pass beyond the rules, for the way from the
// gateway to Kafka.
const Grace = time.Hour
