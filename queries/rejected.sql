-- Rejected messages at some positions or of one event, newest first, and
-- whether they were sent again.
SELECT
    r.src AS src, r.koff AS koff, r.at AS at, r.topic AS topic, r.producedAt AS producedAt,
    r.eventId AS eventId, r.reason AS reason, r.raw AS raw,
    p.replayedAt AS replayedAt,
    r.eventId != '' AND r.eventId IN (SELECT eventId FROM rejected_replays) AS sentBefore
FROM
(
    SELECT
        src, koff, at, topic, producedAt, eventId, reason,
        {{if .Raw}}raw{{else}}'' AS raw{{end}}
    FROM plays_rejected
    {{- if .Event}}
    WHERE eventId = {event:String}
    {{- else}}
    WHERE (src, koff) IN arrayZip({sources:Array(UInt32)}, {offsets:Array(UInt64)})
    {{- end}}
    ORDER BY at DESC
    LIMIT 1 BY src, koff
    LIMIT {limit:UInt32}
) AS r
LEFT JOIN
(
    SELECT src, koff, max(at) AS replayedAt
    FROM rejected_replays
    GROUP BY src, koff
) AS p ON r.src = p.src AND r.koff = p.koff
ORDER BY at DESC, src DESC, koff DESC
