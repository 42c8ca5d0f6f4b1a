-- Where the log begins, what time it is to ClickHouse, and when the history of
-- plays was last rewritten: by a replay, an erasure or whoever says so. Repairs
-- and restores say so too, to those who follow the rollups, but leave the plays
-- as they were, or as the archive has them.
SELECT
    (SELECT count() FROM plays) > 0 AS plays,
    (SELECT min(at) FROM plays) AS oldest,
    now64(3, 'UTC') AS now,
    (SELECT max(at) FROM rewrites WHERE NOT startsWith(reason, 'repair of ') AND NOT startsWith(reason, 'restore')) AS rewritten
