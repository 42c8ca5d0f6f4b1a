-- The event ids of carried plays: repeats of them are still in Kafka. With the
-- mark of each source, as seen_fill leaves it.
INSERT INTO {{.Replay}}.seen (key, src, koff)
SELECT reinterpretAsUInt128(sipHash128(eventId)) AS key, src, koff
FROM {{.Replay}}.plays
WHERE at >= (SELECT min(at) FROM {{.Live}}.plays WHERE {{template "in Kafka"}}) - INTERVAL 48 HOUR

UNION ALL

SELECT toUInt128(src) AS key, src, max(koff) + 1 AS koff
FROM {{.Replay}}.plays
GROUP BY src
