-- What each hour has of each source. The print is a sum of hashes, so rows may
-- be read in any order; positions and arrival times are enough to tell two
-- contents of an hour apart, since a position names its play for ever.
SELECT
    toStartOfHour(at) AS hour,
    src,
    count() AS plays,
    min(koff) AS first,
    max(koff) AS last,
    sum(cityHash64(src, koff, at)) AS print,
    min(at) AS minAt,
    max(at) AS maxAt,
    min(ts) AS minTS,
    max(ts) AS maxTS
FROM plays
WHERE at >= {from:DateTime64(3, 'UTC')} AND at < {to:DateTime64(3, 'UTC')}
GROUP BY hour, src
ORDER BY hour, src
