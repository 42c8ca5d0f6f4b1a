package archive

import (
	"database/sql"
	"testing"
	"time"
)

// WithRowsPerObject makes objects of that size.
func (a *Archive) WithRowsPerObject(n uint64) *Archive {
	a.rowsPerObject = n
	return a
}

// WithTheCurrentHour takes the hour that is not over for one that is.
func (a *Archive) WithTheCurrentHour() *Archive {
	a.closed = func(now time.Time) time.Time { return now.Truncate(time.Hour).Add(time.Hour) }
	return a
}

// ManifestOf reads that of an hour.
func (a *Archive) ManifestOf(t testing.TB, hour time.Time) (m Manifest) {
	t.Helper()
	if err := a.bucket.read(t.Context(), hourFolder(logTable, hour)+manifestSuffix, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// WithOnly leaves the hours from then on out.
func (a *Archive) WithOnly(until time.Time) *Archive {
	a.closed = func(time.Time) time.Time { return until.Truncate(time.Hour) }
	return a
}

// Inserting counts the inserts of restores that ClickHouse is at.
func (a *Archive) Inserting(t testing.TB) (n uint64) {
	t.Helper()
	if err := a.query(t.Context(), "orphans.sql", nil, nil, func(rows *sql.Rows) error { return rows.Scan(&n) }); err != nil {
		t.Error(err)
	}
	return n
}

// Pieces cuts an hour into spans.
func (f Facts) Pieces(most uint64) [][]Span { return f.pieces(most) }

// Conceal takes the secret out of an error.
func (l Location) Conceal(err error) error { return l.conceal(err) }
