-- Positions that are in the log more than once.
SELECT src, koff, count() AS plays
FROM plays
WHERE at >= {since:DateTime64(3, 'UTC')}
  AND (src, intDiv(koff, 65536)) IN
  (
      SELECT src, intDiv(koff, 65536) AS bucket
      FROM plays
      WHERE at >= {since:DateTime64(3, 'UTC')}
      GROUP BY src, bucket
      HAVING count() > groupBitmap(toUInt32(koff % 65536))
  )
GROUP BY src, koff
HAVING plays > 1
ORDER BY src, koff
LIMIT {limit:UInt32}
SETTINGS max_bytes_before_external_group_by = 1000000000
