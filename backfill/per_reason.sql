-- Why rows were rejected, most frequent first, and where the first such one is.
SELECT reason, total, place.1 AS firstFile, place.2 AS firstRow
FROM
(
    SELECT reason, count() AS total, min((file, row)) AS place
    FROM backfill_rows
    WHERE reason != '' AND file != 0
    GROUP BY reason
)
ORDER BY total DESC, reason
LIMIT {limit:UInt32}
