-- Closed charts: one row for each revision of the chart of a day or week that is
-- over. Its entries are in closed_entries, under the same closedAt.
--
-- A revision is there once its row is here, which is written last: entries
-- without one were left by a run that was killed, and count for nothing.
CREATE TABLE IF NOT EXISTS closed_charts
(
    period     LowCardinality(String), -- day or week
    date       Date, -- its first day
    dim        LowCardinality(String),
    val        String,
    revision   UInt16, -- 1, 2, 3, …
    closedAt   DateTime64(3, 'UTC'), -- when it was counted; later revisions have later ones
    totalPlays UInt64, -- of all songs
    songs      UInt16, -- entries; 0 when corrections have emptied the chart
    checksum   UInt64 -- of the entries: a chart that is counted again and is the same gets no revision
)
ENGINE = MergeTree
PARTITION BY toStartOfMonth(date)
ORDER BY (period, date, dim, val, closedAt)
