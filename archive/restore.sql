-- Puts the rows of an object back that are not there. The log takes them as one
-- block, hence as one part, which is there or not; the other tables recognise
-- repeats themselves.
INSERT INTO {{.Table}} ({{range $i, $c := .Columns}}{{if $i}}, {{end}}{{$c.Name}}{{end}})
SELECT {{range $i, $c := .Columns}}{{if $i}}, {{end}}{{$c.Name}}{{end}}
FROM {{template "object" .}}
{{- if .Log}}
WHERE (src, koff) NOT IN (SELECT src, koff FROM plays WHERE {{template "hour" .}})
SETTINGS
    max_threads = 1,
    max_insert_threads = 1,
    min_insert_block_size_rows = 1000000000,
    min_insert_block_size_bytes = 100000000000
{{- end}}
