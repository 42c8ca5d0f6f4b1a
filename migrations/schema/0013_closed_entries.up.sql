-- The entries of closed charts, with each song's way on that chart up to then.
CREATE TABLE IF NOT EXISTS closed_entries
(
    period       LowCardinality(String),
    date         Date,
    dim          LowCardinality(String),
    val          String,
    closedAt     DateTime64(3, 'UTC'), -- names the revision, as in closed_charts
    rank         UInt16,
    songId       String,
    plays        UInt64,
    previousRank UInt16, -- in the period right before; 0 when not on that chart
    peak         UInt16, -- the best rank up to then
    peakDate     Date, -- when it first had it
    periods      UInt32, -- in how many periods it was on the chart, this one included
    streak       UInt32, -- for how many of them without a break
    movement     LowCardinality(String), -- new, up, down, same, re-entry

    -- A song on a chart, as a number: whoever looks for many of these in all of
    -- history reads little else.
    way          UInt64 MATERIALIZED cityHash64(toString(dim), val, songId),

    -- Where a song is, without reading the charts it is not on.
    PROJECTION by_song (SELECT _part_offset ORDER BY (period, songId, date))
)
ENGINE = MergeTree
PARTITION BY toStartOfMonth(date)
ORDER BY (period, date, dim, val, closedAt, rank)
