-- Parts that several statements share, as templates. A template chooses which
-- clauses stand in a statement; values never pass through it, they are bound
-- parameters.

{{define "watermarks"}}
    -- How far the rollups have come, and how far the log: per src the next
    -- offset. `news` are the sources of which the log holds more than a rollup
    -- has counted: their tail. It is not older (by `at`) than the last row that
    -- was counted, which spares reading the rest of the log.
    --
    -- Counts and watermark of a table must come from one snapshot of it, hence
    -- enable_shared_storage_snapshot_in_query in the settings.
    (SELECT (maxMap(map(toUInt32OrZero(val), wm)), maxMap(map(toUInt32OrZero(val), wmAt))) FROM rollup_hour WHERE dim = '_wm') AS hourMark,
    hourMark.1 AS hourDone,
    hourMark.2 AS hourDoneAt,
    (SELECT (maxMap(map(toUInt32OrZero(val), wm)), maxMap(map(toUInt32OrZero(val), wmAt))) FROM rollup_day WHERE dim = '_wm') AS dayMark,
    dayMark.1 AS dayDone,
    dayMark.2 AS dayDoneAt,
    (SELECT maxMap(map(src, next)) FROM (SELECT src, max(koff) + 1 AS next FROM plays GROUP BY src)) AS heads,
    mapKeys(mapFilter((src, next) -> next > least(hourDone[src], dayDone[src]), heads)) AS news,
    if(empty(news), now64(3), arrayMin(src -> least(hourDoneAt[src], dayDoneAt[src]), news)) AS since
{{end}}

{{define "tail"}}
    has(news, src) AND at >= since
    AND ts >= {hourFrom:DateTime64(3, 'UTC')} AND ts < {hourTo:DateTime64(3, 'UTC')}
    AND koff >= if(ts >= {dayFrom:DateTime64(3, 'UTC')} AND ts < {dayTo:DateTime64(3, 'UTC')}, dayDone[src], hourDone[src])
{{end}}

{{define "edges"}}
    -- A play's `at` is later than its ts less what clocks may be ahead.
    at >= {atFrom:DateTime64(3, 'UTC')}
    AND (ts >= {from:DateTime64(3, 'UTC')} AND ts < {hourFrom:DateTime64(3, 'UTC')}
      OR ts >= {hourTo:DateTime64(3, 'UTC')} AND ts < {to:DateTime64(3, 'UTC')})
{{end}}

{{define "days"}}
    ts >= {dayFrom:DateTime64(3, 'UTC')} AND ts < {dayTo:DateTime64(3, 'UTC')}
{{end}}

{{define "hours"}}
    (ts >= {hourFrom:DateTime64(3, 'UTC')} AND ts < {dayFrom:DateTime64(3, 'UTC')}
     OR ts >= {dayTo:DateTime64(3, 'UTC')} AND ts < {hourTo:DateTime64(3, 'UTC')})
{{end}}

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
