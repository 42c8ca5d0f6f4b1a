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
	"github.com/topk-charts/topk/internal/playrules"
)

// The chain is what carries plays from the topic to the rollups: it holds no
// data. Its objects are templates, since some of them name servers, limits or
// the database.
//
//go:embed chain/*.sql
var chainFiles embed.FS

var chainTemplates = template.Must(template.Must(template.New("chain").
	Funcs(template.FuncMap{"quote": quote}).ParseFS(chainFiles, "chain/*.sql")).Parse(playrules.Templates))

// Wiring is what the chain must know of the world around it.
type Wiring struct {
	Brokers        []string   // of Kafka, as ClickHouse reaches them
	Topic          string     // of plays
	TopicID        string     // by which Kafka tells the topic from an earlier one of that name
	Group          string     // consumer group
	Rules          topk.Rules // what the gateway accepts
	MinPlaySeconds int        // plays that say they were shorter do not count

	segments string // database with the users' segments; "" for that of the chain
}

// A link is one object of the chain.
type link struct{ kind, name, file string }

// dictionaries are the links that the others look things up in.
var dictionaries = []link{
	{"DICTIONARY", "song_catalog", "song_catalog.sql"},
	{"DICTIONARY", "segments_of_user", "segments_of_user.sql"},
}

// flow are the links that plays pass, in the order they are created. Plays flow
// once the last one exists.
var flow = []link{
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
	{"TABLE", queue, "plays_queue.sql"},
	{"TABLE", "plays_consume", "plays_consume.sql"},
}

const queue = "plays_queue"

// wire creates the chain, and creates it anew when the text of a link has
// changed: a Kafka table cannot be altered. The comment of an object says which
// text it was made of. Offsets live in Kafka, under the group.
func wire(ctx context.Context, db *sql.DB, database string, w Wiring) error {
	epoch, err := epochOf(ctx, db, w)
	if err != nil {
		return err
	}
	for _, links := range [][]link{dictionaries, flow} {
		texts := make([]string, len(links))
		stale := false
		for i, l := range links {
			if texts[i], err = w.text(l, database, epoch); err != nil {
				return err
			}
			var comment string
			err = db.QueryRowContext(ctx, "SELECT comment FROM system.tables WHERE database = currentDatabase() AND name = {name:String}",
				clickhouse.Named("name", l.name)).Scan(&comment)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			stale = stale || comment != fingerprint(texts[i])
		}
		if !stale {
			continue
		}
		if err := unwire(ctx, db, links); err != nil {
			return err
		}
		for i, l := range links {
			if _, err := db.ExecContext(ctx, texts[i]+"\nCOMMENT "+quote(fingerprint(texts[i]))); err != nil {
				return fmt.Errorf("create %s: %w", l.name, err)
			}
		}
	}
	return nil
}

// unwire drops links. The queue goes first, and with SYNC waits for the block
// that is under way: the views must be there until it is through.
func unwire(ctx context.Context, db *sql.DB, links []link) error {
	backwards := slices.Clone(links)
	slices.Reverse(backwards)
	if i := slices.IndexFunc(backwards, func(l link) bool { return l.name == queue }); i > 0 {
		first := backwards[i]
		backwards = slices.Insert(slices.Delete(backwards, i, i+1), 0, first)
	}
	for _, l := range backwards {
		if _, err := db.ExecContext(ctx, "DROP "+l.kind+" IF EXISTS "+l.name+" SYNC"); err != nil {
			return fmt.Errorf("drop %s: %w", l.name, err)
		}
	}
	return nil
}

// An epoch is one topic that plays are or were read from.
type epoch struct {
	number         uint16
	topic, topicID string
}

func (e epoch) is(w Wiring) bool { return e.topic == w.Topic && e.topicID == w.TopicID }

// lastEpoch is the one being read; sql.ErrNoRows before there was any.
func lastEpoch(ctx context.Context, db *sql.DB) (e epoch, err error) {
	err = db.QueryRowContext(ctx, "SELECT epoch, topic, topicId FROM epochs ORDER BY epoch DESC LIMIT 1").Scan(&e.number, &e.topic, &e.topicID)
	if err != nil {
		return e, fmt.Errorf("read epochs: %w", err)
	}
	return e, nil
}

// epochOf gives the number of the topic among those that were read so far, and
// takes it down when it is a new one.
func epochOf(ctx context.Context, db *sql.DB, w Wiring) (uint16, error) {
	last, err := lastEpoch(ctx, db)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return 0, beginEpoch(ctx, db, 0, w)
	case err != nil:
		return 0, err
	case last.is(w):
		return last.number, nil
	}
	return last.number + 1, beginEpoch(ctx, db, last.number+1, w)
}

func beginEpoch(ctx context.Context, db *sql.DB, number uint16, w Wiring) error {
	_, err := db.ExecContext(ctx, "INSERT INTO epochs (epoch, topic, topicId) SELECT {epoch:UInt16}, {topic:String}, {id:String}",
		clickhouse.Named("epoch", number), clickhouse.Named("topic", w.Topic), clickhouse.Named("id", w.TopicID))
	if err != nil {
		return fmt.Errorf("begin epoch %d: %w", number, err)
	}
	return nil
}

// A rollup's fill differs from the other's in these words.
type rollupFill struct{ Rollup, Grain, PartitionKey, Partition string }

var rollupFills = map[string]rollupFill{
	"rollup_hour_fill": {"rollup_hour", "toStartOfHour", "day", "toDate"},
	"rollup_day_fill":  {"rollup_day", "toStartOfDay", "week", "toMonday"},
}

func (w Wiring) text(l link, database string, epoch uint16) (string, error) {
	segments := w.segments
	if segments == "" {
		segments = database
	}
	var b bytes.Buffer
	err := chainTemplates.ExecuteTemplate(&b, l.file, struct {
		rollupFill
		playrules.Values
		Database, Segments    string
		Brokers, Topic, Group string
		Epoch                 uint16
		Backfill              uint32
	}{
		rollupFill: rollupFills[l.name],
		Values:     playrules.ValuesOf(w.Rules, w.MinPlaySeconds),
		Database:   database, Segments: segments,
		Brokers: strings.Join(w.Brokers, ","), Topic: w.Topic, Group: topk.EpochGroup(w.Group, epoch),
		Epoch:    epoch,
		Backfill: topk.BackfillSource,
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
