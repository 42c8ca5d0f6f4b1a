-- A file as lines of text: as they are, or rows as JSON objects, in the order of
-- the file.
{{- if .Columns}}
SELECT formatRowNoNewline('JSONEachRow', {{range $i, $c := .Columns}}{{if $i}}, {{end}}`{{$c}}`{{end}}) AS line
FROM {{template "source" .Source}}
{{- else}}
SELECT line
FROM {{template "source" .Source}}
{{- end}}
SETTINGS max_threads = 1, input_format_parquet_preserve_order = 1
