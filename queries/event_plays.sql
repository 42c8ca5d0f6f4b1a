-- The plays of an event in the log, oldest first: normally one.
--
-- The log is ordered by position, so it is looked up there, or all event ids
-- of one day of arrival are read: one partition.
SELECT
    src, koff, at, ts, songId, artistId, region, device, contextKind, contextId,
    duration, segments, counted
FROM plays
WHERE eventId = {event:String}
{{- if .Day}}
  AND toDate(at) = {day:Date}
{{- else}}
  AND (src, koff) IN arrayZip({sources:Array(UInt32)}, {offsets:Array(UInt64)})
{{- end}}
ORDER BY at, src, koff
LIMIT {limit:UInt32}
