-- How many of the offsets [from, to) of each source are rows of the log, repeats
-- or rejects, in buckets of 65,536 offsets. Bitmaps count an offset once,
-- wherever and how often it is, and take a bit of memory for each. (UInt32,
-- since the number of a bitmap's members is given in their own type.)
--
-- A redelivered repeat or reject may have a later at than its neighbours, so at
-- only narrows what is read: what is missed here is looked for by position.
WITH
    mapFromArrays({srcs:Array(UInt32)}, {froms:Array(UInt64)}) AS from,
    mapFromArrays({srcs:Array(UInt32)}, {tos:Array(UInt64)}) AS to,
    {since:DateTime64(3, 'UTC')} - INTERVAL 1 DAY AS oldest
SELECT
    src,
    intDiv(koff, 65536) AS bucket,
    groupBitmap(toUInt32(koff % 65536)) AS accounted,
    groupBitmapIf(toUInt32(koff % 65536), kind = 'play') AS plays,
    groupBitmapIf(toUInt32(koff % 65536), kind = 'reject') AS rejects
FROM
(
    SELECT src, koff, 'play' AS kind FROM plays WHERE at >= oldest
    UNION ALL
    SELECT src, koff, 'repeat' AS kind FROM plays_duplicates WHERE at >= oldest
    UNION ALL
    SELECT src, koff, 'reject' AS kind FROM plays_rejected WHERE at >= oldest
)
WHERE src IN {srcs:Array(UInt32)} AND koff >= from[src] AND koff < to[src]
GROUP BY src, bucket
ORDER BY src, bucket
