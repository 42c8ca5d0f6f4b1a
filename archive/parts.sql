-- Parts that several statements share, as templates, which choose clauses;
-- values are bound parameters, the secret of S3 among them: ClickHouse shows and
-- logs the text of statements.

{{define "hour"}}
    at >= {from:DateTime64(3, 'UTC')} AND at < {to:DateTime64(3, 'UTC')}
    {{- if .Spans}}
    -- Ranges of the primary key.
    AND (false
        {{- range .Spans}}
        OR src = {{.Source}} AND koff >= {{.From}} AND koff < {{.To}}
        {{- end}})
    {{- end}}
{{end}}

-- What a table has of an hour, or all of it. Repeats of a row that a later merge
-- removes do not count.
{{define "rows"}}
    {{.Table}}
    {{- if not .Log}} FINAL{{end}}
    {{- if .Hourly}}
    WHERE {{template "hour" .}}
    {{- end}}
{{end}}

{{define "object"}}
    s3({url:String},{{if .Signed}} {keyID:String}, {secret:String},{{end}} 'Parquet', {columns:String})
{{end}}
