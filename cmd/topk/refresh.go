package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"os"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/topk-charts/topk/queries"
	"github.com/topk-charts/topk/refresher"
	"github.com/topk-charts/topk/snapshot"
)

type refreshFlags struct {
	MaxValues  int     `help:"Regions, segments and devices that have charts of their own; those that come later are answered by SQL." default:"20000" env:"TOPK_MAX_VALUES"`
	MaxAsked   int     `help:"Charts per window that are kept because somebody asks for them: of playlists, albums, artists and of several terms." default:"1000" env:"TOPK_MAX_ASKED"`
	CountShare float64 `help:"Share of one ClickHouse statement, run for ever, that counts of single charts may use." default:"0.25" env:"TOPK_COUNT_SHARE"`
}

func (f refreshFlags) check() error {
	if f.CountShare <= 0 || f.CountShare > 2 {
		return fmt.Errorf("--count-share must be above 0 and at most 2, not %v", f.CountShare)
	}
	if f.MaxValues < 1 || f.MaxAsked < 1 {
		return errors.New("--max-values and --max-asked must be at least 1")
	}
	return nil
}

type refreshCommand struct {
	Listen string `help:"Address of /metrics, /healthz, /debug/chart?dim=&window= (the state of one chart) and /debug/pprof/." default:"127.0.0.1:8081" env:"TOPK_REFRESH_LISTEN"`
	refreshFlags
	calendarFlags
	clickhouseFlags
	redisFlags
}

func (c *refreshCommand) Validate() error {
	return errors.Join(c.refreshFlags.check(), c.clickhouseFlags.check(), c.redisFlags.check(), checkAddresses("--listen", []string{c.Listen}))
}

func (c *refreshCommand) Run(ctx context.Context, log *slog.Logger) error {
	if os.Getenv("GOGC") == "" {
		// Most of the memory is counts, which the collector need not look into:
		// collecting more often costs little, and saves a third of the memory.
		debug.SetGCPercent(40)
	}
	return serveMetrics(ctx, c.Listen, log, func(ctx context.Context, registry *prometheus.Registry, mux *http.ServeMux) error {
		return c.refresh(ctx, registry, mux, log)
	})
}

// refresh keeps the snapshots fresh until ctx ends.
func (c *refreshCommand) refresh(ctx context.Context, registry *prometheus.Registry, mux *http.ServeMux, log *slog.Logger) (err error) {
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	db, err := queries.Open(c.ClickhouseURL, c.calendar())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	store, err := snapshot.Open(starting, c.RedisURL, snapshot.Options{Clock: time.Now})
	if err != nil {
		return err
	}
	defer store.Close()
	r := refresher.New(refresher.Config{
		DB: db, Snapshots: store.NewPublisher(snapshot.PublisherOptions{}), Calendar: c.calendar(),
		Clock: time.Now, Log: log, Registry: registry,
		MaxValues: c.MaxValues, MaxAsked: c.MaxAsked, CountShare: c.CountShare,
	})
	mux.Handle("/debug/chart", r.Debug())
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	return r.Run(ctx)
}
