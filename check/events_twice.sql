-- Which of the event ids of these hashes came in twice within the time in which
-- repeats must be recognised. Repeats from beyond it count again, rightly.
SELECT eventId, toUInt32(rows[1].2) AS src, rows[1].3 AS koff, toUInt32(rows[2].2) AS againSrc, rows[2].3 AS againKoff, count() OVER () AS events
FROM
(
    SELECT eventId, arraySort(groupArray((at, src, koff))) AS every,
        arrayFirstIndex((row, i) -> i > 1 AND row.1 < every[i - 1].1 + toIntervalSecond({seconds:UInt32}), every, arrayEnumerate(every)) AS second,
        if(second = 0, [], [every[second - 1], every[second]]) AS rows
    FROM plays
    WHERE at >= {since:DateTime64(3, 'UTC')} AND cityHash64(eventId) IN {hashes:Array(UInt64)}
    GROUP BY eventId
    HAVING count() > 1
)
WHERE second != 0
ORDER BY eventId
LIMIT {limit:UInt32}
