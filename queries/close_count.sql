-- Counts the charts of one dimension in a span of whole days: the first {k}
-- songs of every value, into closing_counts. Exact, and of one prefix of the
-- log, as in charts.sql; where there is none, it throws and nothing is written.
--
-- Genres are asked of the table and not of the dictionary, which follows it
-- after a second or two: a close comes right after a correction.
INSERT INTO closing_counts (dim, val, closedAt, rank, songId, plays, totalPlays)
WITH
{{template "watermarks" .Plan}},
    (SELECT throwIf(countIf(behind) > 0, 'behind') FROM ({{template "prefix"}})) AS torn
SELECT
    {chart:String} AS dim, val, {closedAt:DateTime64(3, 'UTC')} AS closedAt,
    rank, song.2 AS songId, song.1 AS plays, totalPlays
FROM
(
    SELECT
        val,
        sum(plays) AS totalPlays,
        -- Chart order: more plays first, then the greater songId.
        arraySlice(arrayPartialReverseSort({k:UInt32}, groupArray((plays, songId))), 1, {k:UInt32}) AS songs
    FROM
    (
        {{- if .Genre}}
        SELECT arrayJoin(arrayDistinct(genres)) AS val, songId, plays
        FROM ({{template "counts" .}}) AS counted
        INNER JOIN (SELECT songId, genres FROM songs FINAL) AS catalog USING songId
        {{- else}}
        {{template "counts" .}}
        {{- end}}
    )
    WHERE torn = 0
    GROUP BY val
)
ARRAY JOIN songs AS song, arrayEnumerate(songs) AS rank
SETTINGS enable_shared_storage_snapshot_in_query = 1
