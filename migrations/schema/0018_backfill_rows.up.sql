-- The rows of the files of one backfill, judged; empty when none is under way.
-- In the order of the events' keys, so that repeats lie side by side. A row of
-- file 0 says that the log has the event already: it comes first.
CREATE TABLE IF NOT EXISTS backfill_rows
(
    key         UInt128,
    file        UInt32, -- of the run, from 1
    row         UInt64, -- of the file, from 1
    reason      String, -- '' when it is a play
    raw         String, -- of what is none, as JSON
    ts          DateTime64(3, 'UTC'),
    eventId     String,
    userHash    String, -- as topk.HashUser gives it
    songId      String,
    artistId    String,
    country     LowCardinality(String),
    region      LowCardinality(String),
    device      LowCardinality(String),
    contextKind LowCardinality(String),
    contextId   String,
    duration    Int32,
    segments    Array(LowCardinality(String)),
    counted     Bool
)
ENGINE = MergeTree
ORDER BY (key, file, row)
