// Package chdb binds the C interface of libchdb, ClickHouse as a shared
// library, without cgo.
//
// The library holds one engine per process: the first connection boots it on a
// data directory, the last one to close shuts it down. Several connections to
// the same directory run statements in parallel; a single connection runs one
// statement at a time, so callers pool them.
package chdb

import (
	"fmt"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

// Library is a loaded libchdb. It stays loaded until the process ends: the
// engine starts threads and registers destructors that survive no unloading.
type Library struct {
	version             func() string
	setSignalHandlers   func(enabled int32)
	connect             func(argc int32, argv unsafe.Pointer) unsafe.Pointer
	closeConn           func(conn unsafe.Pointer)
	query               queryFunc
	streamQuery         queryFunc
	streamFetch         func(conn, stream unsafe.Pointer) unsafe.Pointer
	streamCancel        func(conn, stream unsafe.Pointer)
	destroyResult       func(result unsafe.Pointer)
	streamInsert        queryFunc
	streamAppend        func(stream, data unsafe.Pointer, size uintptr) int32
	streamDone          func(stream unsafe.Pointer) unsafe.Pointer
	streamCancelInsert  func(stream unsafe.Pointer)
	streamInsertError   func(stream unsafe.Pointer) string
	destroyInsertStream func(stream unsafe.Pointer)
	resultBuffer        func(result unsafe.Pointer) unsafe.Pointer
	resultLength        func(result unsafe.Pointer) uintptr
	resultRowsRead      func(result unsafe.Pointer) uint64
	resultBytesRead     func(result unsafe.Pointer) uint64
	resultStorageRows   func(result unsafe.Pointer) uint64
	resultStorageBytes  func(result unsafe.Pointer) uint64
	resultRowsWritten   func(result unsafe.Pointer) uint64
	resultBytesWritten  func(result unsafe.Pointer) uint64
	resultError         func(result unsafe.Pointer) string
	classify            func(conn, sql unsafe.Pointer, size uintptr, target unsafe.Pointer, targetSize uintptr, out unsafe.Pointer) int32
}

// queryFunc is the shape shared by the three ways to start a statement: text,
// format and the arrays of bound parameters, every string with its length.
type queryFunc func(conn, sql unsafe.Pointer, sqlSize uintptr, format unsafe.Pointer, formatSize uintptr,
	names, nameSizes, values, valueSizes unsafe.Pointer, count uintptr) unsafe.Pointer

var loaded struct {
	sync.Mutex
	path    string
	library *Library
}

// Load opens the library at path. A process has one: the same path again gives
// the same Library, another path is an error.
func Load(path string) (_ *Library, err error) {
	loaded.Lock()
	defer loaded.Unlock()
	switch {
	case loaded.library == nil:
	case loaded.path == path:
		return loaded.library, nil
	default:
		return nil, fmt.Errorf("load the ClickHouse library %s: this process has loaded %s already", path, loaded.path)
	}
	if err := setTimeZone(); err != nil {
		return nil, err
	}
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("load the ClickHouse library: %w", err)
	}
	// A symbol that is not there makes purego panic: another version's library.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("load the ClickHouse library %s, which is of another version: %v", path, r)
		}
	}()
	l := &Library{}
	for name, fn := range map[string]any{
		"chdb_version":                     &l.version,
		"chdb_set_signal_handlers_enabled": &l.setSignalHandlers,
		"chdb_connect":                     &l.connect,
		"chdb_close_conn":                  &l.closeConn,
		"chdb_query_with_params_n":         &l.query,
		"chdb_stream_query_with_params_n":  &l.streamQuery,
		"chdb_stream_fetch_result":         &l.streamFetch,
		"chdb_stream_cancel_query":         &l.streamCancel,
		"chdb_destroy_query_result":        &l.destroyResult,
		"chdb_stream_insert_with_params_n": &l.streamInsert,
		"chdb_stream_append":               &l.streamAppend,
		"chdb_stream_done":                 &l.streamDone,
		"chdb_stream_cancel_insert":        &l.streamCancelInsert,
		"chdb_stream_insert_error":         &l.streamInsertError,
		"chdb_destroy_insert_stream":       &l.destroyInsertStream,
		"chdb_result_buffer":               &l.resultBuffer,
		"chdb_result_length":               &l.resultLength,
		"chdb_result_rows_read":            &l.resultRowsRead,
		"chdb_result_bytes_read":           &l.resultBytesRead,
		"chdb_result_storage_rows_read":    &l.resultStorageRows,
		"chdb_result_storage_bytes_read":   &l.resultStorageBytes,
		"chdb_result_rows_written":         &l.resultRowsWritten,
		"chdb_result_bytes_written":        &l.resultBytesWritten,
		"chdb_result_error":                &l.resultError,
		"chdb_classify_query_n":            &l.classify,
	} {
		purego.RegisterLibFunc(fn, handle, name)
	}
	// The Go runtime owns the signals of this process.
	l.setSignalHandlers(0)
	loaded.path, loaded.library = path, l
	return l, nil
}

// Version is the ClickHouse version inside, such as 26.7.3.
func (l *Library) Version() string { return l.version() }
