package queries_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/queries"
)

// A statement that nobody waits for any more ends on the server, which is asked
// to end it by the id under which it runs.
func TestCancelEndsTheStatement(t *testing.T) {
	env := embeddedtest.New(t)
	target, err := url.Parse(env.ClickHouseURL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) {} // the client is gone
	started, killed := make(chan string, 1), make(chan string, 1)
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id := r.URL.Query().Get("query_id"); strings.HasPrefix(id, "request-7-") {
			select {
			case started <- id:
			default: // a new connection asks who the server is, under the same id
			}
		}
		if id := r.URL.Query().Get("param_id"); id != "" {
			killed <- id
		}
		proxy.ServeHTTP(w, r)
	}))
	defer between.Close()
	db, err := queries.Open(between.URL+"/"+env.Database, topk.DefaultCalendar())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()

	ctx, cancel := context.WithCancel(topk.WithRequestID(t.Context(), "request-7"))
	defer cancel()
	ended := make(chan error)
	go func() { ended <- db.Run(ctx, "SELECT count(), 'endless' FROM system.numbers") }()
	running := func() bool {
		var n uint64
		if err := env.ClickHouse.QueryRow(t.Context(),
			"SELECT count() FROM system.processes WHERE position(query, concat('end', 'less')) > 0").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n > 0
	}
	embeddedtest.WaitFor(t.Context(), t, "the statement to run", running)
	cancel()
	if err := <-ended; err == nil {
		t.Error("the statement that was cancelled has no error")
	}
	embeddedtest.WaitFor(t.Context(), t, "the statement to end", func() bool { return !running() })
	id := <-started
	if got := <-killed; got != id {
		t.Errorf("the statement to be killed is %s, want %s", got, id)
	}
}
