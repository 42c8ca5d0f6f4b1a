package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/topk-charts/topk/internal/embedded/chdb"
)

// session is the state a connection of the engine must be in for a request.
type session struct {
	database string
	settings map[string]string
}

// key tells sessions apart.
func (s session) key() string {
	names := sortedNames(s.settings)
	var b strings.Builder
	fmt.Fprintf(&b, "%q", s.database)
	for _, n := range names {
		fmt.Fprintf(&b, " %q=%q", n, s.settings[n])
	}
	return b.String()
}

// statements bring a fresh connection into the state. Settings go by SET
// because a connection ignores names it does not know; readonly goes last
// because nothing may be set after it.
func (s session) statements(tag string) []string {
	var out, sets []string
	for _, n := range sortedNames(s.settings) {
		v := s.settings[n]
		switch n {
		case "readonly":
			continue
		case "log_comment":
			// The tag is how a statement is found to be killed. One that sets
			// log_comment in its own SETTINGS cannot be.
			v = tag + " " + v
		}
		sets = append(sets, quoteName(n)+" = "+quoteString(v))
	}
	if len(sets) > 0 {
		out = append(out, "SET "+strings.Join(sets, ", "))
	}
	if s.database != "" {
		out = append(out, "USE "+quoteName(s.database))
	}
	if v := s.settings["readonly"]; v != "" {
		out = append(out, "SET readonly = "+quoteString(v))
	}
	return out
}

func sortedNames(m map[string]string) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

var (
	nameEscaper   = strings.NewReplacer("\\", "\\\\", "`", "\\`")
	stringEscaper = strings.NewReplacer("\\", "\\\\", "'", "\\'")
)

func quoteName(s string) string   { return "`" + nameEscaper.Replace(s) + "`" }
func quoteString(s string) string { return "'" + stringEscaper.Replace(s) + "'" }

// conn is a connection of the engine in a known state.
type conn struct {
	*chdb.Conn
	key string
	tag string
}

// killWhenDone makes the end of ctx the end of the statement that runs on c.
// The returned function must be called after the statement, before c is used
// again.
func (e *engine) killWhenDone(ctx context.Context, c *conn) (stop func()) {
	finished, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-finished:
			return
		case <-ctx.Done():
		}
		// A statement can be killed only once the engine lists it, and a kill
		// may fall before that: repeat until it is gone.
		retry := time.NewTicker(killRetry)
		defer retry.Stop()
		for {
			e.kill(c.tag)
			select {
			case <-finished:
				return
			case <-retry.C:
			}
		}
	}()
	return func() {
		close(finished)
		<-stopped
	}
}

const killRetry = 50 * time.Millisecond
