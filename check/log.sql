-- The plays since {since}, and in how many of them a position occurs that
-- another has too. In buckets, as positions.sql.
SELECT sum(n) AS plays, sum(n - positions) AS again
FROM
(
    SELECT count() AS n, groupBitmap(toUInt32(koff % 65536)) AS positions
    FROM plays
    WHERE at >= {since:DateTime64(3, 'UTC')}
    GROUP BY src, intDiv(koff, 65536)
)
