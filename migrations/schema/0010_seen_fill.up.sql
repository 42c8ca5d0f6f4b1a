-- Each accepted play owns its event id from now on; with the block's marker
-- (key 0) first, so that it is never newer than the keys beside it.
CREATE MATERIALIZED VIEW IF NOT EXISTS seen_fill TO seen
AS
SELECT
    owner.1 AS key,
    owner.2 AS src,
    owner.3 AS koff
FROM
(
    SELECT arrayJoin(
        if(rowNumberInBlock() = 0,
           [(toUInt128(0), toUInt32(0), toUInt64(toUnixTimestamp64Milli(at))), (key, src, koff)],
           [(key, src, koff)])) AS owner
    FROM accepted
)
