-- How far closing has come, per period and date the last of each step:
--
--  began  a run is about to write revisions
--  done   all charts of the date are as of closedAt
--
-- A date with a later began than done was left by a run that was killed. One
-- whose done is older than the began of an earlier date is to be closed again:
-- the movement on its charts may be another.
CREATE TABLE IF NOT EXISTS close_runs
(
    period    LowCardinality(String),
    date      Date,
    step      LowCardinality(String),
    closedAt  DateTime64(3, 'UTC'),
    -- What was counted, to tell whether anything has changed since:
    plays     UInt64, -- of the date
    rewrites  UInt64, -- rows of the table rewrites
    genres    UInt64, -- a print of the catalog's genres
    -- What came of it:
    charts    UInt32, -- charts of the date
    revisions UInt32 -- of these written by the run
)
ENGINE = ReplacingMergeTree(closedAt)
ORDER BY (period, date, step)
