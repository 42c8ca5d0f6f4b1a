-- The counted plays beyond a position in the log, in order per source, and how
-- far each source was read: at most {limit} offsets from its first unread row,
-- so that a gap in the offsets, however wide, does not stall it. The rows of
-- the sources (kind 0) come before the plays (kind 1).
--
-- A source is known by what the log holds of it, so a new one is read from its
-- beginning. `at` never decreases within a source, so what is unread is not
-- older than what was read: `since` spares looking into the parts before it.
--
-- Heads and rows must come from one snapshot of the log, hence the settings.
WITH
    {sources:Array(UInt32)} AS sources,
    {nexts:Array(UInt64)} AS nexts,
    (SELECT maxMap(map(src, next)) FROM (SELECT src, max(koff) + 1 AS next FROM plays GROUP BY src)) AS heads,
    mapFromArrays(sources, nexts) AS done,
    mapFromArrays(sources, {ats:Array(Int64)}) AS doneAt,
    mapKeys(mapFilter((src, head) -> head > done[src], heads)) AS news,
    fromUnixTimestamp64Milli(if(empty(news), toInt64(0), arrayMin(src -> doneAt[src], news)), 'UTC') AS since,
    (
        SELECT mapFromArrays(groupArray(src), groupArray((oldest, oldestAt)))
        FROM
        (
            SELECT src, min(koff) AS oldest, toUnixTimestamp64Milli(min(at)) AS oldestAt
            FROM plays
            WHERE {{template "unread" .}}
            GROUP BY src
        )
    ) AS first
SELECT kind, src, koff, head, firstAt, ms, songId, country, region, device, segments, contextKind, contextId, rewrites
FROM
(
    SELECT
        1 AS kind, src, koff, toUInt64(0) AS head, toInt64(0) AS firstAt, toUnixTimestamp64Milli(ts) AS ms, songId,
        country, region, device, segments, contextKind, contextId, toUInt64(0) AS rewrites
    FROM plays
    WHERE {{template "unread" .}} AND koff < first[src].1 + {limit:UInt64} AND counted

    UNION ALL

    SELECT
        0 AS kind, src, first[src].1 AS koff, heads[src] AS head, first[src].2 AS firstAt, toInt64(0) AS ms, '' AS songId,
        toLowCardinality('') AS country, toLowCardinality('') AS region, toLowCardinality('') AS device,
        CAST([], 'Array(LowCardinality(String))') AS segments,
        toLowCardinality('') AS contextKind, '' AS contextId, (SELECT count() FROM rewrites) AS rewrites
    FROM (SELECT arrayJoin(mapKeys(heads)) AS src)
)
ORDER BY kind, src, koff
SETTINGS enable_shared_storage_snapshot_in_query = 1

{{define "unread"}}
    has(news, src) AND at >= since
    AND (NOT has(sources, src)
        {{- range $i, $source := .Sources}}
        OR src = sources[{{$i}} + 1] AND koff >= nexts[{{$i}} + 1]
        {{- end}})
{{- end}}
