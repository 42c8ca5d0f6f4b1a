-- Carries over the next backfilled plays of one day of insertion: one part, all
-- or nothing.
INSERT INTO {{.Replay}}.plays
SELECT * FROM {{.Live}}.plays
WHERE src = {source:UInt32} AND koff >= {next:UInt64}
  AND toDate(at) = (SELECT toDate(min(at)) FROM {{.Live}}.plays WHERE src = {source:UInt32} AND koff >= {next:UInt64})
ORDER BY koff
LIMIT {limit:UInt64}
SETTINGS
    max_threads = 1,
    max_insert_threads = 1,
    max_block_size = 1000000,
    min_insert_block_size_rows = 1000000000,
    min_insert_block_size_bytes = 100000000000
