-- How many plays of the log a rollup has not counted yet, for how many
-- milliseconds the oldest of them has waited, and of which sources the rollup
-- claims more than the log holds. (Sources of which the log keeps nothing any
-- more are left out.)
WITH
    (SELECT maxMap(map(toUInt32OrZero(val), wm)) FROM {{.Name}} WHERE dim = '_wm') AS done,
    (SELECT maxMap(map(toUInt32OrZero(val), wmAt)) FROM {{.Name}} WHERE dim = '_wm') AS doneAt,
    (SELECT maxMap(map(src, next)) FROM (SELECT src, max(koff) + 1 AS next FROM plays GROUP BY src)) AS heads,
    mapKeys(mapFilter((src, next) -> next > done[src], heads)) AS news,
    if(empty(news), now64(3), arrayMin(src -> doneAt[src], news)) AS since
SELECT
    count() AS plays,
    if(plays = 0, 0, greatest(0, toUnixTimestamp64Milli(now64(3)) - toUnixTimestamp64Milli(min(at)))) AS millis,
    arraySort(mapKeys(mapFilter((src, next) -> next > heads[src] AND doneAt[src] > {kept:DateTime64(3, 'UTC')}, done))) AS beyond
FROM plays
WHERE has(news, src) AND at >= since AND koff >= done[src]
SETTINGS enable_shared_storage_snapshot_in_query = 1
