-- Carries the log into {{.Rollup}}, from the rollup's own watermark.
--
-- Exact under kills, because the counts and the new watermark come from the
-- very same read of the log and are written as one part. The other reads only
-- decide how much is read: `heads`, which sources have news; `first`, where
-- each of them goes on, so that a gap in the offsets, however wide, does not
-- stall it. `at` never decreases within a source, so what is unread is not
-- older than the last row that was read: `since` spares reading the rest.
CREATE MATERIALIZED VIEW {{.Rollup}}_fill
REFRESH EVERY 5 SECOND APPEND TO {{.Rollup}}
AS
WITH
    250000 AS cap, -- offsets per src and refresh; the rest is taken next time
    (SELECT maxMap(map(toUInt32OrZero(val), wm)) FROM {{.Rollup}} WHERE dim = '_wm') AS done,
    (SELECT maxMap(map(toUInt32OrZero(val), wmAt)) FROM {{.Rollup}} WHERE dim = '_wm') AS doneAt,
    (SELECT maxMap(map(src, next)) FROM (SELECT src, max(koff) + 1 AS next FROM plays GROUP BY src)) AS heads,
    mapKeys(mapFilter((src, next) -> next > done[src], heads)) AS news,
    if(empty(news), now64(3), arrayMin(src -> doneAt[src], news)) AS since,
    (
        SELECT maxMap(map(src, oldest))
        FROM
        (
            SELECT src, min(koff) AS oldest
            FROM plays
            WHERE has(news, src) AND at >= since AND koff >= done[src]
            GROUP BY src
        )
    ) AS first
SELECT
    row.1 AS dim,
    row.2 AS val,
    row.3 AS songId,
    row.4 AS ts,
    sum(row.5) AS plays,
    max(row.6) AS wm,
    max(row.7) AS wmAt,
    {{.Partition}}(now()) AS {{.PartitionKey}}
FROM
(
    SELECT
        {{.Grain}}(ts) AS start,
        arrayConcat(
            arrayMap(chart -> (chart.1, chart.2, songId, start, 1, 0, toDateTime64(0, 3, 'UTC')), charts),
            [('_wm', toString(src), '', toDateTime(0, 'UTC'), 0, koff + 1, at)]) AS rows
    FROM play_charts
    WHERE has(news, src) AND at >= since AND koff >= done[src] AND koff < first[src] + cap
)
ARRAY JOIN rows AS row
GROUP BY dim, val, songId, ts
SETTINGS
    -- One block, hence one part: the defaults would split a large refresh and
    -- leave the watermark in one part without the counts in the others.
    max_threads = 1,
    max_insert_threads = 1,
    min_insert_block_size_rows = 1000000000,
    min_insert_block_size_bytes = 100000000000,
    max_bytes_before_external_group_by = 0,
    max_bytes_ratio_before_external_group_by = 0,
    group_by_two_level_threshold = 0,
    group_by_two_level_threshold_bytes = 0
