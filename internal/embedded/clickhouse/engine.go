package clickhouse

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/topk-charts/topk/internal/embedded/chdb"
)

// engine is the running libchdb with its connections.
type engine struct {
	lib     *chdb.Library
	keeper  *chdb.Conn // keeps the engine running while the pool is empty; kills queries
	pool    *pool
	spool   string // directory of what a statement reads while it runs
	version string
}

// startEngine boots ClickHouse on a directory.
func startEngine(lib *chdb.Library, dir string, maxIdle int) (_ *engine, err error) {
	config, err := writeConfig(dir)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, fmt.Errorf("create the data directory of ClickHouse: %w", err)
	}
	spool := filepath.Join(dir, "spool")
	if err := os.RemoveAll(spool); err != nil { // what was killed left it
		return nil, fmt.Errorf("empty the spool of ClickHouse: %w", err)
	}
	if err := os.Mkdir(spool, 0o700); err != nil {
		return nil, fmt.Errorf("create the spool of ClickHouse: %w", err)
	}
	arguments := []string{"--config-file=" + config, "--path=" + data, "--implicit_select=0"}
	open := func(tag string) (*chdb.Conn, error) {
		return lib.Connect(append(arguments[:len(arguments):len(arguments)], "--log_comment="+tag)...)
	}
	e := &engine{lib: lib, spool: spool, pool: &pool{open: open, maxIdle: maxIdle}}
	if e.keeper, err = open("embedded-keeper"); err != nil {
		return nil, fmt.Errorf("start ClickHouse on %s: %w", data, err)
	}
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	r, err := e.keeper.Query("SELECT version()", formatDefault)
	if err != nil {
		return nil, fmt.Errorf("ask ClickHouse for its version: %w", err)
	}
	defer r.Close()
	e.version = string(r.Data[:max(0, len(r.Data)-1)])
	return e, nil
}

// ask runs a statement of the front itself.
func (e *engine) ask(ctx context.Context, in session, sql string) ([]byte, error) {
	c, err := e.pool.get(in)
	if err != nil {
		return nil, err
	}
	stop := e.killWhenDone(ctx, c)
	r, err := c.Query(sql, formatDefault)
	var answer []byte
	if err == nil {
		answer = bytes.Clone(r.Data)
		r.Close()
	}
	stop()
	e.pool.put(c, err == nil)
	return answer, err
}

// kill ends the statement that runs on the connection with the tag.
func (e *engine) kill(tag string) {
	sql := "KILL QUERY WHERE splitByChar(' ', Settings['log_comment'])[1] = " + quoteString(tag) + " ASYNC"
	if r, err := e.keeper.Query(sql, formatDefault); err == nil {
		r.Close()
	}
}

// close stops the engine. No statement may be running.
func (e *engine) close() {
	e.pool.close()
	if e.keeper != nil {
		e.keeper.Close()
	}
}
