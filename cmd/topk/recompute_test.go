package main

import (
	"context"
	"flag"
	"log/slog"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/queries"
	"github.com/topk-charts/topk/snapshot"
)

// asRecompute makes the test binary behave as a refresher that computes every
// chart anew each time: what the incremental one is measured against.
const asRecompute = "TOPK_TEST_AS_RECOMPUTE"

// recompute takes the arguments of topk refresh, and refreshes until it is
// killed.
func recompute(args []string) error {
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	listen := flags.String("listen", "", "")
	clickhouse := flags.String("clickhouse-url", "", "")
	redis := flags.String("redis-url", "", "")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	ctx := context.Background()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	db, err := queries.Open(*clickhouse, topk.DefaultCalendar())
	if err != nil {
		return err
	}
	store, err := snapshot.Open(ctx, *redis, snapshot.Options{Clock: time.Now})
	if err != nil {
		return err
	}
	publisher := store.NewPublisher(snapshot.PublisherOptions{})
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {})
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {})
	var group errgroup.Group
	group.Go(func() error { return http.ListenAndServe(*listen, mux) })
	for _, w := range topk.Windows() {
		group.Go(func() error {
			recomputeWindow(ctx, db, publisher, w, log)
			return nil
		})
	}
	return group.Wait()
}

// recomputeWindow computes and publishes the charts of one window, once a second
// or as often as it gets done.
func recomputeWindow(ctx context.Context, db *queries.DB, publisher *snapshot.Publisher, w topk.Window, log *slog.Logger) {
	for ticks := time.Tick(time.Second); ; <-ticks {
		for _, dim := range []topk.Dimension{topk.DimGlobal, topk.DimRegion, topk.DimGenre, topk.DimSegment, topk.DimDevice} {
			charts, _, err := db.Charts(ctx, dim, w, time.Now())
			if err != nil {
				log.Error("charts", "dimension", dim, "window", w.String(), "error", err)
			}
			changes := make([]snapshot.Change, len(charts))
			for i, c := range charts {
				changes[i] = snapshot.Whole(c)
			}
			for _, outcome := range publisher.Publish(ctx, changes) {
				if outcome.Err != nil {
					log.Error("publish", "dimension", dim, "window", w.String(), "error", outcome.Err)
				}
			}
		}
	}
}
