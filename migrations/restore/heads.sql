-- From which offset on each partition of an epoch is to be read.
SELECT toInt32(src % 65536) AS partition, max(koff) + 1 AS next
FROM plays
WHERE bitShiftRight(src, 16) = {epoch:UInt16}
GROUP BY src
