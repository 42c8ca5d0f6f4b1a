-- Writes rows to an object: once more the same, when a run that was killed has
-- written it already.
INSERT INTO FUNCTION s3({url:String},{{if .Signed}} {keyID:String}, {secret:String},{{end}} 'Parquet')
SELECT *
FROM {{template "rows" .}}
ORDER BY {{if .Hourly}}src, koff{{else}}1{{end}}
SETTINGS
    s3_truncate_on_insert = 1,
    output_format_parquet_compression_method = 'zstd'
