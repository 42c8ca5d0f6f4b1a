-- A chart, counted from the log alone and as plainly as can be: every play in
-- the window that is in the prefix of the log and satisfies the filter. Rows
-- with songId '' say whether the chart can be judged by this.
WITH
    mapFromArrays({srcs:Array(UInt32)}, {nexts:Array(UInt64)}) AS prefix,
    counts AS
    (
        SELECT songId, count() AS plays
        FROM plays
        WHERE counted
          AND ts >= {from:DateTime64(3, 'UTC')} AND ts < {to:DateTime64(3, 'UTC')}
          AND at >= {oldest:DateTime64(3, 'UTC')} -- no play comes in that long before its time
          AND mapContains(prefix, src) AND koff < prefix[src]
        {{- range $i, $dim := .Terms}}
        {{- if eq $dim "region"}}
          AND (country = {v{{$i}}:String} OR region = {v{{$i}}:String})
        {{- else if eq $dim "segment"}}
          AND has(segments, {v{{$i}}:String})
        {{- else if eq $dim "device"}}
          AND device = {v{{$i}}:String}
        {{- else if eq $dim "genre"}}
          AND songId IN (SELECT songId FROM songs FINAL WHERE has(genres, {v{{$i}}:String}))
        {{- else if eq $dim "artist"}}
          AND songId IN (SELECT songId FROM songs FINAL WHERE artistId = {v{{$i}}:String})
        {{- else}}
          AND contextKind = '{{$dim}}' AND contextId = {v{{$i}}:String}
        {{- end}}
        {{- end}}
        GROUP BY songId
    )
SELECT songId, plays, sum(plays) OVER () AS total, toDateTime64(0, 3, 'UTC') AS catalogAt, toDateTime64(0, 3, 'UTC') AS firstAt, toDateTime64(0, 3, 'UTC') AS logFirst, false AS foreign
FROM counts
ORDER BY plays DESC, songId DESC
LIMIT {k:UInt32}

UNION ALL

-- When the catalog was last changed; the first day with plays; when the first
-- one came in that the log has; and whether the prefix names more than there is,
-- so that it is of another log.
SELECT
    '' AS songId,
    toUInt64(0) AS plays,
    toUInt64(0) AS total,
    (SELECT max(updatedAt) FROM songs) AS catalogAt,
    (SELECT toDateTime64(min(ts), 3, 'UTC') FROM rollup_day WHERE dim = 'global') AS firstAt,
    (SELECT min(at) FROM plays) AS logFirst,
    arrayExists(src -> prefix[src] > greatest(
        (SELECT maxMap(map(src, next)) FROM (SELECT src, max(koff) + 1 AS next FROM plays GROUP BY src))[src],
        (SELECT maxMap(map(toUInt32OrZero(val), wm)) FROM rollup_hour WHERE dim = '_wm')[src],
        (SELECT maxMap(map(toUInt32OrZero(val), wm)) FROM rollup_day WHERE dim = '_wm')[src]), mapKeys(prefix)) AS foreign
