-- What a load would change: entries written and deleted, of how many.
SELECT
    countIf(NOT deleted) AS puts,
    countIf(deleted) AS deletions,
    (SELECT count() FROM {{.Table}} FINAL WHERE {{if .Users}}notEmpty(segments){{else}}title != ''{{end}}) AS present
FROM ({{template "changes" .}})

{{define "changes"}}
    {{- if .Users}}
    SELECT user, segments, empty(segments) AS deleted
    FROM
    (
        SELECT user, segments
        FROM user_segments_loading
        WHERE load = {load:UUID}
        ORDER BY row DESC
        LIMIT 1 BY user
        {{- if .Replace}}
        UNION ALL
        SELECT user, [] AS segments
        FROM user_segments FINAL
        WHERE user NOT IN (SELECT user FROM user_segments_loading WHERE load = {load:UUID})
        {{- end}}
    )
    -- What is so already is left alone: whoever follows has less to read.
    WHERE (user, segments) NOT IN (SELECT user, segments FROM user_segments FINAL)
      AND (NOT deleted OR user IN (SELECT user FROM user_segments))
    {{- else}}
    SELECT songId, title, artistId, artist, genres, durationMs, title = '' AS deleted
    FROM
    (
        SELECT songId, title, artistId, artist, genres, durationMs
        FROM songs_loading
        WHERE load = {load:UUID}
        ORDER BY row DESC
        LIMIT 1 BY songId
        {{- if .Replace}}
        UNION ALL
        SELECT songId, '' AS title, '' AS artistId, '' AS artist, [] AS genres, 0 AS durationMs
        FROM songs FINAL
        WHERE songId NOT IN (SELECT songId FROM songs_loading WHERE load = {load:UUID})
        {{- end}}
    )
    WHERE (songId, title, artistId, artist, genres, durationMs) NOT IN (SELECT songId, title, artistId, artist, genres, durationMs FROM songs FINAL)
      AND (NOT deleted OR songId IN (SELECT songId FROM songs))
    {{- end}}
{{end}}
