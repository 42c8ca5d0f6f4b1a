-- An estimate of the first entries of one chart, and the exact number of plays
-- of all songs. Counted from the same grains as chart.sql, with its templates,
-- but of nothing that is to be taken off again: no such estimate can be. And
-- of the songs only so many as there are counters are kept, those with the
-- most plays: memory does not grow with the songs.
WITH
{{template "watermarks" .Plan}}
SELECT songId, estimate, error, total, toUInt32(0) AS src, toUInt64(0) AS next, false AS behind
FROM
(
    SELECT song.1 AS songId, song.2 AS estimate, song.3 AS error, total
    FROM
    (
        SELECT approx_top_sum({counters:UInt32}, {counters:UInt32})(songId, toUInt64(n)) AS songs, toUInt64(sum(n)) AS total
        FROM
        (
            {{template "song counts" .}}
        )
        {{- if .Genres}}
        WHERE {{template "of genres"}}
        {{- end}}
    )
    ARRAY JOIN songs AS song
    ORDER BY estimate DESC, songId DESC
    LIMIT {k:UInt32}
)

UNION ALL

SELECT '' AS songId, 0 AS estimate, 0 AS error, 0 AS total, src, next, behind
FROM ({{template "prefix"}})
SETTINGS enable_shared_storage_snapshot_in_query = 1
