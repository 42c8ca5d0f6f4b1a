-- How far each partition of an epoch was read, by what came of its messages. (A
-- commit that a broker refused is made up for only by the next message.)
SELECT toInt32(src % 65536) AS partition, max(koff) + 1 AS next
FROM
(
    SELECT src, koff FROM plays
    UNION ALL
    SELECT src, koff FROM plays_duplicates
    UNION ALL
    SELECT src, koff FROM plays_rejected
)
WHERE bitShiftRight(src, 16) = {epoch:UInt16}
GROUP BY src
