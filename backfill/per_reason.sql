-- Why rows were rejected, most frequent first, and where the first such one is.
SELECT reason, count() AS rows, min((file, row)) AS place, place.1 AS file, place.2 AS firstRow
FROM backfill_rows
WHERE reason != '' AND file != 0
GROUP BY reason
ORDER BY rows DESC, reason
LIMIT {limit:UInt32}
