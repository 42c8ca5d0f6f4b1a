-- Rows of files that are no plays. Those that are there already stay one.
INSERT INTO {{.Replay}}.plays_rejected
SELECT * FROM {{.Live}}.plays_rejected
WHERE src = {source:UInt32}
SETTINGS max_partitions_per_insert_block = 0
