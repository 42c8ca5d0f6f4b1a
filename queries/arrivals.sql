-- The counted plays of some spans of offsets, in order per source. The spans
-- are ranges of the primary key: nothing else is read.
SELECT src, koff, toUnixTimestamp64Milli(ts) AS ms, songId, country, region, device, segments, contextKind, contextId
FROM plays
WHERE counted
  AND (false
    {{- range $i, $span := .}}
    OR src = {src{{$i}}:UInt32} AND koff >= {from{{$i}}:UInt64} AND koff < {to{{$i}}:UInt64}
    {{- end}})
ORDER BY src, koff
