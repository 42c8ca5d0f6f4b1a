-- One rollup partition against the log, per dimension: the plays, and a print
-- of which keys they are of. The print is a sum of one hash per play, so it
-- needs no row per key: for the rollup it is the hash of the key times its plays
-- (all modulo 2^64).
--
-- Rows of dim '_wm' are of a source each: its watermark in the partition and,
-- in milliseconds, the time beside it; what the log says they should be; and
-- the end of the log. A watermark above that end was read later than the log,
-- or is wrong: the caller asks again.
WITH
{{template "range" .}}
SELECT
    dim,
    toUInt32(0) AS src,
    sum(n) AS kept,
    sum(p) AS keptPrint,
    sum(logN) AS counted,
    sum(logP) AS countedPrint,
    toUInt64(0) AS head
FROM
(
    SELECT
        toString(dim) AS dim,
        sum(plays) AS n,
        sum(plays * cityHash64(toString(dim), val, songId, toUnixTimestamp(ts))) AS p,
        toUInt64(0) AS logN,
        toUInt64(0) AS logP
    FROM {{.Name}}
    WHERE {{.Key}} = {partition:Date} AND dim != '_wm'
    GROUP BY dim

    UNION ALL

    SELECT
        chart.1 AS dim,
        toUInt64(0) AS n,
        toUInt64(0) AS p,
        count() AS logN,
        sum(cityHash64(chart.1, chart.2, songId, toUnixTimestamp({{.Grain}}(ts)))) AS logP
    FROM play_charts
    ARRAY JOIN charts AS chart
    WHERE {{template "counted"}}
    GROUP BY dim
)
GROUP BY dim

UNION ALL

SELECT
    '_wm' AS dim,
    w.src AS src,
    own[src] AS kept,
    toUInt64(toUnixTimestamp64Milli(ownAt[src])) AS keptPrint,
    l.next AS counted,
    toUInt64(toUnixTimestamp64Milli(l.last)) AS countedPrint,
    heads[src] AS head
FROM (SELECT arrayJoin(moved) AS src) AS w
LEFT JOIN
(
    SELECT src, max(koff) + 1 AS next, max(at) AS last
    FROM plays
    WHERE {{template "counted"}}
    GROUP BY src
) AS l ON w.src = l.src
ORDER BY dim, src
SETTINGS enable_shared_storage_snapshot_in_query = 1
