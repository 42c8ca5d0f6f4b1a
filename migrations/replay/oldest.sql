-- The first day of which the rollups have more than was backfilled, and that of
-- the log of live plays; 1970 when there are none. What was backfilled is
-- carried over.
SELECT
    (
        SELECT min(day)
        FROM
        (
            SELECT day, sum(n) AS more
            FROM
            (
                SELECT ts AS day, toInt64(sum(plays)) AS n FROM rollup_day WHERE dim = 'global' GROUP BY day
                UNION ALL
                SELECT toStartOfDay(ts) AS day, -toInt64(count()) AS n FROM plays WHERE src = {source:UInt32} AND counted GROUP BY day
            )
            GROUP BY day
        )
        WHERE more > 0
    ) AS counted,
    (SELECT toStartOfDay(min(ts)) FROM plays WHERE src != {source:UInt32}) AS kept
