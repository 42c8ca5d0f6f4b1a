package clickhouse

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"strings"
	"time"
)

// A server reloads dictionaries by itself when their LIFETIME is over. The
// library does not, taking itself for clickhouse-local, so this does it.

// reloadEvery is how often LIFETIMEs are looked at.
const reloadEvery = time.Second

// dictionary is a row of system.dictionaries.
type dictionary struct {
	UUID        string `json:"uuid"`
	Database    string `json:"database"`
	Name        string `json:"name"`
	Start       int64  `json:"start"` // of the last load, Unix seconds
	LifetimeMin int64  `json:"lifetime_min"`
	LifetimeMax int64  `json:"lifetime_max"`
}

// schedule is when a dictionary is next looked at.
type schedule struct {
	start    int64 // of the load it is counted from
	due      time.Time
	response string // to the INVALIDATE_QUERY, at the last look
}

// reloader keeps the dictionaries fresh.
type reloader struct {
	engine    *engine
	log       *slog.Logger
	schedules map[string]schedule
}

// run works until ctx ends.
func (r *reloader) run(ctx context.Context) {
	r.schedules = make(map[string]schedule)
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := r.look(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("dictionaries are not reloaded", "error", err)
		}
	}
}

// look reloads the dictionaries that are due.
func (r *reloader) look(ctx context.Context) error {
	out, err := r.engine.ask(ctx, session{}, `SELECT toString(uuid) AS uuid, database, name,
		toUnixTimestamp(loading_start_time) AS start, lifetime_min, lifetime_max
		FROM system.dictionaries WHERE lifetime_max > 0 AND status IN ('LOADED', 'FAILED')
		FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0`)
	if err != nil {
		return err
	}
	var errs []error
	present := make(map[string]bool)
	rows := json.NewDecoder(bytes.NewReader(out))
	for {
		var d dictionary
		if err := rows.Decode(&d); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("read system.dictionaries: %w", err)
		}
		present[d.UUID] = true
		if err := r.reload(ctx, d); err != nil {
			errs = append(errs, err)
		}
	}
	for id := range r.schedules {
		if !present[id] {
			delete(r.schedules, id)
		}
	}
	return errors.Join(errs...)
}

// reload loads d again if it is due and, where it has an INVALIDATE_QUERY, the
// answer to that has changed.
func (r *reloader) reload(ctx context.Context, d dictionary) error {
	s := r.schedules[d.UUID]
	if s.start != d.Start {
		s.start, s.due = d.Start, time.Unix(d.Start, 0).Add(d.lifetime())
		r.schedules[d.UUID] = s
	}
	if time.Now().Before(s.due) {
		return nil
	}
	s.due = time.Now().Add(d.lifetime())
	r.schedules[d.UUID] = s
	query, err := r.invalidateQuery(ctx, d)
	if err != nil {
		return err
	}
	if query != "" {
		response, err := r.engine.ask(ctx, session{database: d.Database}, query)
		if err != nil {
			return fmt.Errorf("ask whether dictionary %s.%s has changed: %w", d.Database, d.Name, err)
		}
		if string(response) == s.response {
			return nil
		}
		s.response = string(response)
		r.schedules[d.UUID] = s
	}
	name := quoteName(d.Database) + "." + quoteName(d.Name)
	if _, err := r.engine.ask(ctx, session{}, "SYSTEM RELOAD DICTIONARY "+name); err != nil {
		return fmt.Errorf("reload dictionary %s: %w", name, err)
	}
	return nil
}

// lifetime is a random time within the LIFETIME, as a server takes it, so that
// dictionaries of the same age are not all loaded at once.
func (d dictionary) lifetime() time.Duration {
	spread := max(0, d.LifetimeMax-d.LifetimeMin)
	return time.Duration(d.LifetimeMin+rand.Int64N(spread+1)) * time.Second
}

var invalidateClause = regexp.MustCompile(`(?is)\bINVALIDATE_QUERY\s+'((?:[^'\\]|\\.|'')*)'`)

var stringUnescaper = strings.NewReplacer(`\\`, `\`, `\'`, `'`, `''`, `'`, `\n`, "\n", `\t`, "\t")

// invalidateQuery finds the INVALIDATE_QUERY of d, which no system table has in
// a column of its own.
func (r *reloader) invalidateQuery(ctx context.Context, d dictionary) (string, error) {
	out, err := r.engine.ask(ctx, session{}, "SELECT create_table_query FROM system.tables WHERE database = "+
		quoteString(d.Database)+" AND name = "+quoteString(d.Name)+" FORMAT TSVRaw")
	if err != nil {
		return "", err
	}
	if m := invalidateClause.FindSubmatch(out); m != nil {
		return stringUnescaper.Replace(string(m[1])), nil
	}
	return "", nil
}
