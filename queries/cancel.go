package queries

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/topk-charts/topk"
)

// killTimeout bounds the attempt to end a statement.
const killTimeout = 2 * time.Second

// begin gives a statement its query id, which begins with the topk.RequestID so
// that the statements of a request can be found in ClickHouse, and sees to it that it ends on the
// server when ctx does. done must be called when the statement has ended.
//
// The server notices by itself, within a fraction of a second, that an HTTP
// client is gone, where the statement may only read (readonly); in other cases
// it would go on, at worst for the time that is left until ctx's deadline and 5
// seconds, which clickhouse-go sends as max_execution_time: so it is killed by
// its id. The embedded server ends what nobody waits for, and knows no ids.
func (db *DB) begin(ctx context.Context) (_ context.Context, done func()) {
	id := rand.Text()
	if request := topk.RequestID(ctx); request != "" {
		id = request + "-" + id // a request has several
	}
	db.killing.Add(1)
	stop := context.AfterFunc(ctx, func() {
		defer db.killing.Done()
		// Its own deadline: ctx is over. There are no more of these than
		// connections.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
		defer cancel()
		// What fails here ends by max_execution_time.
		_ = db.conn.Exec(ctx, "KILL QUERY WHERE query_id = {id:String} ASYNC", clickhouse.Named("id", id))
	})
	return clickhouse.Context(ctx, clickhouse.WithQueryID(id)), func() {
		if stop() {
			db.killing.Done()
		}
	}
}
