-- Per source: the watermark of the partitions before this one, its own, and the
-- end of the log.
WITH
    (SELECT maxMap(map(toUInt32OrZero(val), wm)) FROM {{.Name}} WHERE dim = '_wm' AND {{.Key}} < {partition:Date}) AS start,
    (SELECT maxMap(map(toUInt32OrZero(val), wm)) FROM {{.Name}} WHERE dim = '_wm' AND {{.Key}} = {partition:Date}) AS own,
    (SELECT maxMap(map(src, next)) FROM (SELECT src, max(koff) + 1 AS next FROM plays GROUP BY src)) AS heads
SELECT arrayJoin(arraySort(mapKeys(own))) AS src, start[src] AS before, own[src] AS next, heads[src] AS head
SETTINGS enable_shared_storage_snapshot_in_query = 1
