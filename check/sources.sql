-- For each source: the end of the log, and from which offset on all offsets
-- must be accounted for: from the first one that came in since {since}, or when
-- there is none from the last one that came in at all.
SELECT src, max(head) AS next, if(max(recent), min(if(recent, koff, 18446744073709551615)), max(koff)) AS from
FROM
(
    SELECT src, min(koff) AS koff, toUInt64(0) AS head, true AS recent FROM plays WHERE at >= {since:DateTime64(3, 'UTC')} GROUP BY src
    UNION ALL
    SELECT src, min(koff) AS koff, toUInt64(0) AS head, true AS recent FROM plays_duplicates WHERE at >= {since:DateTime64(3, 'UTC')} GROUP BY src
    UNION ALL
    SELECT src, min(koff) AS koff, toUInt64(0) AS head, true AS recent FROM plays_rejected WHERE at >= {since:DateTime64(3, 'UTC')} GROUP BY src
    UNION ALL
    SELECT src, max(koff) AS koff, koff + 1 AS head, false AS recent FROM plays GROUP BY src
    UNION ALL
    SELECT src, max(koff) AS koff, toUInt64(0) AS head, false AS recent FROM plays_duplicates GROUP BY src
    UNION ALL
    SELECT src, max(koff) AS koff, toUInt64(0) AS head, false AS recent FROM plays_rejected GROUP BY src
)
WHERE src IN {srcs:Array(UInt32)}
GROUP BY src
ORDER BY src
