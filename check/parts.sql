-- Parts that several statements share, as templates. A template chooses which
-- table and clauses stand in a statement; values are bound parameters.

{{define "range"}}
    -- What a rollup partition has to hold: the plays of each source from the
    -- watermark of the partitions before it (start) to its own (own). All from
    -- one snapshot of each table, hence enable_shared_storage_snapshot_in_query
    -- in the settings: so a fill that runs meanwhile does not matter.
    (SELECT maxMap(map(toUInt32OrZero(val), wm)) FROM {{.Name}} WHERE dim = '_wm' AND {{.Key}} < {partition:Date}) AS start,
    (SELECT maxMap(map(toUInt32OrZero(val), wmAt)) FROM {{.Name}} WHERE dim = '_wm' AND {{.Key}} < {partition:Date}) AS startAt,
    (SELECT maxMap(map(toUInt32OrZero(val), wm)) FROM {{.Name}} WHERE dim = '_wm' AND {{.Key}} = {partition:Date}) AS own,
    (SELECT maxMap(map(toUInt32OrZero(val), wmAt)) FROM {{.Name}} WHERE dim = '_wm' AND {{.Key}} = {partition:Date}) AS ownAt,
    (SELECT maxMap(map(src, next)) FROM (SELECT src, max(koff) + 1 AS next FROM plays GROUP BY src)) AS heads,
    mapKeys(mapFilter((src, next) -> next > start[src], own)) AS moved,
    {{template "since"}}
{{end}}

{{define "since"}}
    -- From when on (by at) the plays of the moved sources can have come in. at
    -- never decreases within a source. A day before the partition is enough
    -- unless the fill was that late; then the watermark's time says so.
    arrayFilter(src -> NOT mapContains(startAt, src), moved) AS fresh,
    (SELECT min(at) FROM plays WHERE src IN (SELECT arrayJoin(fresh))) AS freshAt,
    least(
        toDateTime64({partition:Date}, 3, 'UTC') - INTERVAL 1 DAY,
        if(empty(moved), now64(3), arrayMin(src -> if(mapContains(startAt, src), startAt[src], freshAt), moved))) AS since
{{end}}

{{define "counted"}}
    has(moved, src) AND at >= since AND koff >= start[src] AND koff < own[src]
    -- The same, less exactly, so that the primary key can be used.
    AND koff < arrayMax(arrayMap(src -> own[src], moved))
{{end}}
