-- Where repeats of an event were, and whose they are, oldest first. A position
-- may be there twice after a kill: the last judgement counts, as the table's
-- engine would have it.
SELECT src, koff, at, ownerSrc, ownerKoff
FROM
(
    SELECT src, koff, at, ownerSrc, ownerKoff
    FROM plays_duplicates
    WHERE eventId = {event:String}
    ORDER BY at DESC
    LIMIT 1 BY src, koff
)
ORDER BY at, src, koff
LIMIT {limit:UInt32}
