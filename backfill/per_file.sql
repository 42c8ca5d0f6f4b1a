-- What has become of the rows of each file.
SELECT file, sum(total) AS rows, sum(wrong) AS rejected, sum(back) AS appended, sum(front) AS published, min(first) AS firstDay, max(last) AS lastDay
FROM
(
    SELECT file, count() AS total, countIf(reason != '') AS wrong, 0 AS back, 0 AS front, toDate('2149-06-06') AS first, toDate(0) AS last
    FROM backfill_rows
    WHERE file != 0
    GROUP BY file

    UNION ALL

    SELECT file, 0, 0, countIf(ts < {cut:DateTime64(3, 'UTC')}), countIf(ts >= {cut:DateTime64(3, 'UTC')}), min(toDate(ts)), max(toDate(ts))
    FROM backfill_plays
    GROUP BY file
)
GROUP BY file
ORDER BY file
