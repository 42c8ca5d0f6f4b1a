-- Writes what a load changes.
{{- if .Users}}
INSERT INTO user_segments (user, segments)
SELECT user, segments
{{- else}}
INSERT INTO songs (songId, title, artistId, artist, genres, durationMs)
SELECT songId, title, artistId, artist, genres, durationMs
{{- end}}
FROM ({{template "changes" .}})
