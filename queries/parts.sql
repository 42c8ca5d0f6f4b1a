-- Parts that several statements share, as templates. A template chooses which
-- clauses stand in a statement; values never pass through it, they are bound
-- parameters.
--
-- The bounds of a plan (see plan.go) have a suffix where a statement has several
-- plans: it is what the templates of bounds are given.

{{define "watermarks"}}
    -- How far the rollups have come, and how far the log: per src the next
    -- offset. `news` are the sources of which the log holds more than a rollup
    -- has counted: their tail. It is not older (by `at`) than the last row that
    -- was counted, which spares reading the rest of the log.
    --
    -- A rollup that is not read is not asked: its mark is taken to be the other's.
    --
    -- Counts and watermark of a table must come from one snapshot of it, hence
    -- enable_shared_storage_snapshot_in_query in the settings.
    {{if .Hours}}{{template "mark" "rollup_hour"}}{{else if .Days}}{{template "mark" "rollup_day"}}{{else}}{{template "no mark"}}{{end}} AS hourMark,
    {{if .Days}}{{template "mark" "rollup_day"}}{{else}}hourMark{{end}} AS dayMark,
    hourMark.1 AS hourDone,
    hourMark.2 AS hourDoneAt,
    dayMark.1 AS dayDone,
    dayMark.2 AS dayDoneAt,
    (SELECT maxMap(map(src, next)) FROM (SELECT src, max(koff) + 1 AS next FROM plays GROUP BY src)) AS heads,
    mapKeys(mapFilter((src, next) -> next > least(hourDone[src], dayDone[src]), heads)) AS news,
    if(empty(news), now64(3), arrayMin(src -> least(hourDoneAt[src], dayDoneAt[src]), news)) AS since
{{end}}

{{define "mark" -}}
    (SELECT (maxMap(map(toUInt32OrZero(val), wm)), maxMap(map(toUInt32OrZero(val), wmAt))) FROM {{.}} WHERE dim = '_wm')
{{- end}}

{{define "no mark" -}}
    (CAST(map(), 'Map(UInt32, UInt64)'), CAST(map(), 'Map(UInt32, DateTime64(3, \'UTC\'))'))
{{- end}}

{{/* The rollups' times are compared as what they are, DateTime: their ranges are
     of whole hours, or empty. As DateTime64 it takes several times as long. */}}
{{define "days" -}}
    (week >= {weekFrom{{.}}:Date}
        AND ts >= {{template "second" (print "dayFrom" .)}} AND ts < {{template "second" (print "dayTo" .)}})
{{- end}}

{{define "hours" -}}
    (day >= {insertedFrom{{.}}:Date}
        AND (ts >= {{template "second" (print "hourFrom" .)}} AND ts < {{template "second" (print "dayFrom" .)}}
            OR ts >= {{template "second" (print "dayTo" .)}} AND ts < {{template "second" (print "hourTo" .)}}))
{{- end}}

{{define "second"}}toDateTime({{"{"}}{{.}}:DateTime64(3, 'UTC')}, 'UTC'){{end}}

{{define "tail" -}}
    (has(news, src) AND at >= since
        AND ts >= {hourFrom{{.}}:DateTime64(3, 'UTC')} AND ts < {hourTo{{.}}:DateTime64(3, 'UTC')}
        AND koff >= if(ts >= {dayFrom{{.}}:DateTime64(3, 'UTC')} AND ts < {dayTo{{.}}:DateTime64(3, 'UTC')}, dayDone[src], hourDone[src]))
{{- end}}

{{/* What the whole hours have too little of the span, and what they have too much.
     A play's `at` is later than its ts less what clocks may be ahead. */}}
{{define "edges" -}}
    (at >= {atFrom{{.}}:DateTime64(3, 'UTC')}
        AND (ts >= least({from{{.}}:DateTime64(3, 'UTC')}, {hourFrom{{.}}:DateTime64(3, 'UTC')})
                AND ts < greatest({from{{.}}:DateTime64(3, 'UTC')}, {hourFrom{{.}}:DateTime64(3, 'UTC')})
            OR ts >= least({hourTo{{.}}:DateTime64(3, 'UTC')}, {to{{.}}:DateTime64(3, 'UTC')})
                AND ts < greatest({hourTo{{.}}:DateTime64(3, 'UTC')}, {to{{.}}:DateTime64(3, 'UTC')})))
{{- end}}

{{/* How much a play of the edges counts: 1, or -1 where the hours have too much. */}}
{{define "edge" -}}
    toInt64((ts >= {from{{.}}:DateTime64(3, 'UTC')}) - (ts >= {hourFrom{{.}}:DateTime64(3, 'UTC')})
        + (ts >= {hourTo{{.}}:DateTime64(3, 'UTC')}) - (ts >= {to{{.}}:DateTime64(3, 'UTC')}))
{{- end}}

{{define "prefix"}}
    -- The prefix of the log that was counted. `behind` is true when the log was
    -- seen at an earlier moment than a rollup, or in the middle of the switch of
    -- a replay, so that the counts are of no prefix at all: the caller asks
    -- again. Of a source without plays for as long as the log keeps them, and of
    -- one whose last plays were erased, the rollups know more than the log,
    -- rightly.
    SELECT
        arrayJoin(arrayDistinct(arrayConcat(mapKeys(heads), mapKeys(hourDone), mapKeys(dayDone)))) AS src,
        greatest(heads[src], hourDone[src], dayDone[src]) AS next,
        heads[src] < next
            AND greatest(hourDoneAt[src], dayDoneAt[src]) > greatest(now64(3) - INTERVAL 89 DAY, (SELECT max(at) FROM rewrites)) AS behind
{{end}}
