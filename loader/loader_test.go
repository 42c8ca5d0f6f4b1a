package loader_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/loader"
	"github.com/topk-charts/topk/migrations"
	"github.com/topk-charts/topk/queries"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

func TestLoad(t *testing.T) {
	env := embeddedtest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := migrations.Up(ctx, env.DSN, migrations.Wiring{
		Brokers: env.Brokers, Topic: env.Topic, Group: env.Topic, Rules: topk.DefaultRules(),
	}); err != nil {
		t.Fatal(err)
	}
	db, err := queries.Open(env.DSN, topk.DefaultCalendar())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	value := func(sql string) (v string) {
		t.Helper()
		if err := env.ClickHouse.QueryRow(ctx, "SELECT toString(("+sql+"))").Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}

	// More than one batch, with blank lines, and a correction of the first song.
	var in strings.Builder
	for i := range 12_000 {
		fmt.Fprintf(&in, `{"songId":"s%d","title":"T","artistId":"a","artist":"A","genres":["pop"],"durationMs":1}`+"\n\n", i)
	}
	in.WriteString(`{"songId":"s0","title":"New","artistId":"a","artist":"A","genres":[],"durationMs":2}`)
	rows := 0
	if err := loader.Catalog(ctx, db, strings.NewReader(in.String()), func(n int) { rows = n }); err != nil {
		t.Fatal(err)
	}
	if got := value("SELECT (count(), anyIf(title, songId = 's0')) FROM songs FINAL"); rows != 12_001 || got != "(12000,'New')" {
		t.Errorf("%d rows, songs are %s", rows, got)
	}

	users := `{"userId":"u1","segments":["free","student"]}` + "\n" + `{"userId":"u2","segments":[]}`
	pepper := []byte("0123456789abcdef")
	if err := loader.Segments(ctx, db, pepper, strings.NewReader(users), func(int) {}); err != nil {
		t.Fatal(err)
	}
	key := fmt.Sprintf("reinterpretAsUInt128(unhex(substring('%s', 1, 32)))", topk.HashUser(pepper, "u1"))
	if got := value("SELECT (count(), anyIf(segments, user = " + key + ")) FROM user_segments FINAL"); got != "(2,['free','student'])" {
		t.Errorf("users are %s", got)
	}

	for name, test := range map[string]struct{ in, says string }{
		"bad JSON":   {"{}\nnonsense", "line 1: songId must not be empty"},
		"bad field":  {`{"songId":"s","title":"T","artistId":"a","artist":"A"}` + "\n\n" + `{"songId":"","title":"T","artistId":"a","artist":"A"}`, "line 3: songId must not be empty"},
		"wrong type": {`{"songId":5}`, "line 1: must be a song"},
		"long line":  {strings.Repeat("x", 2<<20), "line 1: "},
	} {
		if err := loader.Catalog(ctx, db, strings.NewReader(test.in), func(int) {}); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want it to say %q", name, err, test.says)
		}
	}
}
