-- The event ids of the last plays, repeats of which may still come: by the end of
-- the log, not the clock, since Kafka is read on from there. With the mark of
-- each source, as seen_fill leaves it.
INSERT INTO seen (key, src, koff)
SELECT key, owner.1 AS src, owner.2 AS koff
FROM
(
    -- The last owner: an event that came again after 48 hours counts again.
    SELECT reinterpretAsUInt128(sipHash128(eventId)) AS key, argMax((src, koff), (at, src, koff)) AS owner
    FROM plays
    WHERE at >= (SELECT max(at) FROM plays) - INTERVAL 48 HOUR
    GROUP BY key
)

UNION ALL

SELECT toUInt128(src) AS key, src, max(koff) + 1 AS koff
FROM plays
GROUP BY src
