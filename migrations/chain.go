package migrations

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/template"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/topk-charts/topk"
)

// The chain is what carries plays from the topic to the rollups: it holds no
// data. Its objects are templates, since some of them name servers, limits or
// the database.
//
//go:embed chain/*.sql
var chainFiles embed.FS

var chainTemplates = template.Must(template.New("chain").
	Funcs(template.FuncMap{"quote": quote}).ParseFS(chainFiles, "chain/*.sql"))

// Wiring is what the chain must know of the world around it.
type Wiring struct {
	Brokers        []string   // of Kafka, as ClickHouse reaches them
	Topic          string     // of plays
	TopicID        string     // by which Kafka tells the topic from an earlier one of that name
	Group          string     // consumer group
	Rules          topk.Rules // what the gateway accepts
	MinPlaySeconds int        // plays that say they were shorter do not count
}

// A link is one object of the chain.
type link struct{ kind, name, file string }

// links are in the order they are created. Plays flow once the last one exists.
var links = []link{
	{"DICTIONARY", "song_catalog", "song_catalog.sql"},
	{"DICTIONARY", "segments_of_user", "segments_of_user.sql"},
	{"TABLE", "play_charts", "play_charts.sql"},
	{"TABLE", "rollup_hour_fill", "rollup_fill.sql"},
	{"TABLE", "rollup_day_fill", "rollup_fill.sql"},
	{"TABLE", "landing", "landing.sql"},
	{"TABLE", "judged", "judged.sql"},
	{"TABLE", "seen_fill", "seen_fill.sql"},
	{"TABLE", "plays_fill", "plays_fill.sql"},
	{"TABLE", "plays_duplicates_fill", "plays_duplicates_fill.sql"},
	{"TABLE", "plays_rejected_fill", "plays_rejected_fill.sql"},
	{"TABLE", "judge", "judge.sql"},
	{"TABLE", "plays_queue", "plays_queue.sql"},
	{"TABLE", "plays_consume", "plays_consume.sql"},
}

// wire creates the chain, and creates it anew when the text of a link has
// changed: a Kafka table cannot be altered. The comment of an object says which
// text it was made of. Offsets live in Kafka, under the group.
func wire(ctx context.Context, db *sql.DB, database string, w Wiring) error {
	epoch, err := epochOf(ctx, db, w)
	if err != nil {
		return err
	}
	texts := make(map[string]string, len(links))
	stale := false
	for _, l := range links {
		text, err := w.text(l, database, epoch)
		if err != nil {
			return err
		}
		texts[l.name] = text
		var comment string
		err = db.QueryRowContext(ctx, "SELECT comment FROM system.tables WHERE database = currentDatabase() AND name = {name:String}",
			clickhouse.Named("name", l.name)).Scan(&comment)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		stale = stale || comment != fingerprint(text)
	}
	if !stale {
		return nil
	}
	if err := unwire(ctx, db); err != nil {
		return err
	}
	for _, l := range links {
		if _, err := db.ExecContext(ctx, texts[l.name]+"\nCOMMENT "+quote(fingerprint(texts[l.name]))); err != nil {
			return fmt.Errorf("create %s: %w", l.name, err)
		}
	}
	return nil
}

// unwire drops the chain. The queue goes first, and with SYNC waits for the
// block that is under way: the views must be there until it is through.
func unwire(ctx context.Context, db *sql.DB) error {
	backwards := slices.Clone(links)
	slices.Reverse(backwards)
	queue := slices.IndexFunc(backwards, func(l link) bool { return l.name == "plays_queue" })
	for _, l := range slices.Concat(backwards[queue:queue+1], backwards[:queue], backwards[queue+1:]) {
		if _, err := db.ExecContext(ctx, "DROP "+l.kind+" IF EXISTS "+l.name+" SYNC"); err != nil {
			return fmt.Errorf("drop %s: %w", l.name, err)
		}
	}
	return nil
}

// epochOf gives the number of the topic among those that were read so far, and
// takes it down when it is a new one.
func epochOf(ctx context.Context, db *sql.DB, w Wiring) (uint16, error) {
	var epoch uint16
	var topic, id string
	err := db.QueryRowContext(ctx, "SELECT epoch, topic, topicId FROM epochs ORDER BY epoch DESC LIMIT 1").Scan(&epoch, &topic, &id)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return 0, fmt.Errorf("read epochs: %w", err)
	case topic == w.Topic && id == w.TopicID:
		return epoch, nil
	default:
		epoch++
	}
	_, err = db.ExecContext(ctx, "INSERT INTO epochs (epoch, topic, topicId) SELECT {epoch:UInt16}, {topic:String}, {id:String}",
		clickhouse.Named("epoch", epoch), clickhouse.Named("topic", w.Topic), clickhouse.Named("id", w.TopicID))
	if err != nil {
		return 0, fmt.Errorf("begin epoch %d: %w", epoch, err)
	}
	return epoch, nil
}

// A rollup's fill differs from the other's in these words.
type rollupFill struct{ Rollup, Grain, PartitionKey, Partition string }

var rollupFills = map[string]rollupFill{
	"rollup_hour_fill": {"rollup_hour", "toStartOfHour", "day", "toDate"},
	"rollup_day_fill":  {"rollup_day", "toStartOfDay", "month", "toStartOfMonth"},
}

func (w Wiring) text(l link, database string, epoch uint16) (string, error) {
	group := w.Group
	if epoch > 0 {
		// The offsets of an earlier topic mean nothing in this one.
		group = fmt.Sprintf("%s-%d", w.Group, epoch)
	}
	var b bytes.Buffer
	err := chainTemplates.ExecuteTemplate(&b, l.file, struct {
		rollupFill
		Database, Brokers, Topic, Group string
		Epoch                           uint16
		MaxAheadMillis, MaxAgeMillis    int64
		MinPlaySeconds                  int
		Countries                       []string
	}{
		rollupFill: rollupFills[l.name],
		Database:   database, Brokers: strings.Join(w.Brokers, ","), Topic: w.Topic, Group: group,
		Epoch:          epoch,
		MaxAheadMillis: w.Rules.MaxAhead.Milliseconds(), MaxAgeMillis: w.Rules.MaxAge.Milliseconds(),
		MinPlaySeconds: w.MinPlaySeconds,
		Countries:      topk.Countries(),
	})
	if err != nil {
		return "", fmt.Errorf("text of %s: %w", l.name, err)
	}
	return strings.TrimSpace(b.String()), nil
}

func fingerprint(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "wiring " + hex.EncodeToString(sum[:8])
}

// quote writes a string literal: DDL takes no bound parameters.
func quote(s string) string { return "'" + escape.Replace(s) + "'" }

var escape = strings.NewReplacer(`\`, `\\`, `'`, `\'`)
