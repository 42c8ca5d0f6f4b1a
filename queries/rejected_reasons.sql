-- How many messages were rejected for each reason, most first. Each message
-- counts once, however often it is in the table.
SELECT why, count() AS messages, countIf(again) AS replayed
FROM
(
    SELECT
        argMax(reason, at) AS why,
        (src, koff) IN (SELECT src, koff FROM rejected_replays) AS again
    FROM plays_rejected
    WHERE {{template "rejected" .}}
    GROUP BY src, koff
)
GROUP BY why
ORDER BY messages DESC, why
LIMIT {limit:UInt32}
