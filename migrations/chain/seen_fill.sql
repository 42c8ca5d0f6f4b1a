-- Each play that counts owns its event id from now on. The last offset of each
-- source moves that source's mark, in the same atomic write as its keys.
CREATE MATERIALIZED VIEW seen_fill TO seen
AS
SELECT
    owner.1 AS key,
    owner.2 AS src,
    owner.3 AS koff
FROM
(
    SELECT arrayJoin(arrayConcat(
        if((src, koff) = (ownerSrc, ownerKoff), [(key, src, koff)], []),
        if(last, [(toUInt128(src), src, koff + 1)], []))) AS owner
    FROM
    (
        SELECT src, koff, key, ownerSrc, ownerKoff, koff = max(koff) OVER positions AS last
        FROM judged
        WINDOW positions AS (PARTITION BY src ORDER BY koff ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
    )
)
