-- Keeps where repeats were, and whose.
CREATE MATERIALIZED VIEW plays_duplicates_fill TO plays_duplicates
AS
SELECT src, koff, at, eventId, ownerSrc, ownerKoff
FROM judged
WHERE (src, koff) != (ownerSrc, ownerKoff)
