-- How many rows a table has from before {limit}, and the oldest. Partitions are by
-- that column: the others are not read.
SELECT count() AS rows, toDateTime(min({{.Column}}), 'UTC') AS oldest
FROM {{.Table}}
WHERE {{.Column}} < toDateTime({limit:DateTime64(3, 'UTC')}, 'UTC')
