// Package clickhouse serves ClickHouse's HTTP interface over libchdb, so that
// the clients used against a real server, clickhouse-go above all, run
// unchanged against an engine inside this process.
//
// What a server has and this has not: users other than default, sessions,
// external tables in the request, query ids in system.processes, the native
// TCP protocol, the table function input(). Each is refused with ClickHouse's
// own error codes rather than ignored. Two things are only nearly the same: a
// column DateTime('Zone') comes to clients of the Native format as DateTime,
// and a result in a format that cannot be cut in parts, such as JSON or
// Parquet, is limited to 256 MiB.
package clickhouse
