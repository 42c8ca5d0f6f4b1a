-- The charts of the one date that is being closed, as counted, before it is
-- known which of them are new. Emptied after use.
CREATE TABLE IF NOT EXISTS closing_counts
(
    dim        LowCardinality(String),
    val        String,
    closedAt   DateTime64(3, 'UTC'), -- of the run
    rank       UInt16,
    songId     String,
    plays      UInt64,
    totalPlays UInt64, -- of the chart
    way        UInt64 MATERIALIZED cityHash64(toString(dim), val, songId) -- as in closed_entries
)
ENGINE = MergeTree
ORDER BY (dim, val, rank)
