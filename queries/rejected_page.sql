-- A page of rejected messages, newest first: where they are and how long. The
-- messages themselves may be a megabyte each, and are read for this page only.
--
-- A redelivered block may be in the table twice, at two times: the later counts
-- throughout, so that no message is on two pages.
SELECT src, koff, max(at) AS last, any(length(raw)) AS bytes
FROM plays_rejected
WHERE {{template "rejected" .}}
GROUP BY src, koff
{{- if .After}}
HAVING (last, src, koff) < ({afterAt:DateTime64(3, 'UTC')}, {afterSource:UInt32}, {afterOffset:UInt64})
{{- end}}
ORDER BY last DESC, src DESC, koff DESC
LIMIT {limit:UInt32}

{{define "rejected"}}
    true
    {{- if .From}} AND at >= {from:DateTime64(3, 'UTC')}{{end}}
    {{- if .To}} AND at < {to:DateTime64(3, 'UTC')}{{end}}
    {{- if .Reason}} AND positionCaseInsensitiveUTF8(reason, {reason:String}) > 0{{end}}
    {{- if .Partition}} AND partition = {partition:UInt16}{{end}}
    {{- if .Event}} AND eventId = {event:String}{{end}}
    {{- if .Replayed}} AND (src, koff) {{.Replayed}} (SELECT src, koff FROM rejected_replays){{end}}
{{end}}
