package queries_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/internal/oracle"
	"github.com/topk-charts/topk/migrations"
	"github.com/topk-charts/topk/queries"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// now is the instant the tests' plays are judged at: not on any boundary.
var now = time.Date(2026, 3, 4, 15, 42, 17, 123_000_000, time.UTC)

// chain is a migrated database, what was put into its log, and the truth.
type chain struct {
	testing.TB
	env    *embeddedtest.Env
	db     *queries.DB
	oracle *oracle.Oracle
	users  map[string][]string
	next   map[uint32]uint64
}

var pepper = []byte("pepper")

func newChain(t testing.TB) *chain {
	t.Helper()
	env := embeddedtest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := migrations.Up(ctx, env.DSN, migrations.Wiring{
		Brokers: env.Brokers, Topic: env.Topic, Group: env.Topic, Rules: topk.DefaultRules(),
	})
	if err != nil {
		t.Fatal(err)
	}
	db, err := queries.Open(env.DSN, topk.DefaultCalendar())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &chain{TB: t, env: env, db: db, oracle: oracle.New(), next: map[uint32]uint64{}}
	songs := rapid.Custom(oracle.Catalog).Example(1)
	for _, s := range songs {
		c.oracle.SetSong(s)
	}
	if err := db.UpsertSongs(ctx, songs); err != nil {
		t.Fatal(err)
	}
	c.users = rapid.Custom(oracle.Users).Example(1)
	c.exec("SYSTEM RELOAD DICTIONARY song_catalog")
	return c
}

func (c *chain) exec(sql string, args ...any) {
	c.Helper()
	if err := c.env.ClickHouse.Exec(c.Context(), sql, args...); err != nil {
		c.Fatalf("%s: %v", sql, err)
	}
}

// append puts plays into the log of a source, as the chain does.
func (c *chain) append(src uint32, plays ...topk.Play) {
	c.Helper()
	batch, err := c.env.ClickHouse.PrepareBatch(c.Context(), `INSERT INTO plays (src, koff, at, ts, eventId, user,
		songId, artistId, country, region, device, contextKind, contextId, duration, segments, counted)`)
	if err != nil {
		c.Fatal(err)
	}
	at := time.Now() // of the insert, as the chain takes it
	for _, p := range plays {
		key, err := queries.UserKey(topk.HashUser(pepper, p.UserID))
		if err != nil {
			c.Fatal(err)
		}
		duration := int32(-1)
		if p.Duration != nil {
			duration = int32(*p.Duration)
		}
		segments := c.users[p.UserID]
		if err := batch.Append(src, c.next[src], at, p.Timestamp, p.EventID, key,
			p.SongID, p.ArtistID, p.Region.Country, p.Region.String(), p.Device, p.Context.Kind, p.Context.ID,
			duration, segments, true); err != nil {
			c.Fatal(err)
		}
		c.oracle.Add(p, segments)
		c.next[src]++
	}
	if err := batch.Send(); err != nil {
		c.Fatal(err)
	}
}

// fill runs a rollup's refresh to its end, and again until it has all.
func (c *chain) fill(rollup string) {
	c.Helper()
	for {
		c.exec("SYSTEM REFRESH VIEW " + rollup + "_fill")
		c.exec("SYSTEM WAIT VIEW " + rollup + "_fill")
		var behind bool
		err := c.env.ClickHouse.QueryRow(c.Context(), `
			SELECT count() > 0
			FROM (SELECT src, max(koff) + 1 AS head FROM plays GROUP BY src) AS log
			LEFT JOIN (SELECT toUInt32OrZero(val) AS src, max(wm) AS wm FROM `+rollup+` WHERE dim = '_wm' GROUP BY src) AS done USING src
			WHERE head > wm`).Scan(&behind)
		if err != nil {
			c.Fatal(err)
		}
		if !behind {
			return
		}
	}
}

// randomPlays draws n plays with eventIds of their own.
func randomPlays(seed int, n int) []topk.Play {
	plays := make([]topk.Play, n)
	draw := rapid.Custom(func(t *rapid.T) topk.Play { return oracle.Play(t, "-", now) })
	pool := make([]topk.Play, 2000)
	for i := range pool {
		pool[i] = draw.Example(seed + i)
	}
	rng := rand.New(rand.NewPCG(uint64(seed), 1))
	for i := range plays {
		plays[i] = pool[rng.IntN(len(pool))]
		plays[i].EventID = fmt.Sprintf("e-%d-%d", seed, i)
	}
	return plays
}
