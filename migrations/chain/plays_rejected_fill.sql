-- Keeps what is not a play, so that it never blocks its partition.
CREATE MATERIALIZED VIEW plays_rejected_fill TO plays_rejected
AS
SELECT src, koff, at, topic, partition, producedAt, reason, eventId, raw
FROM landing
WHERE reason != ''
