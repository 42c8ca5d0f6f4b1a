-- How far the log is, per source, and in the one row with head 0 how often
-- history was rewritten.
SELECT src, max(koff) + 1 AS head, toUInt64(0) AS rewrites
FROM plays
GROUP BY src

UNION ALL

SELECT toUInt32(0) AS src, toUInt64(0) AS head, count() AS rewrites
FROM rewrites
