-- Reads a file into backfill_rows: each row is judged by the rules of the
-- gateway, but for its age, and its user's id is hashed before it is written.
INSERT INTO backfill_rows
    (key, ts, eventId, songId, artistId, country, region, device, contextKind, contextId, duration, counted, file, row, reason, raw, userHash, segments)
WITH
    {{- if .Lines}}
    t.1 AS line,
    {{- if .Mapped}}
    CAST((
        JSONExtract(line, {c0:String}, 'Nullable(String)'), JSONExtract(line, {c1:String}, 'Nullable(String)'),
        JSONExtract(line, {c2:String}, 'Nullable(String)'), JSONExtract(line, {c3:String}, 'Nullable(String)'),
        JSONExtract(line, {c4:String}, 'Nullable(String)'), JSONExtract(line, {c5:String}, 'Nullable(String)'),
        JSONExtract(line, {c6:String}, 'Nullable(String)'), JSONExtract(line, {c7:String}, 'Nullable(String)'),
        JSONExtract(line, {c8:String}, 'Nullable(String)')), '{{template "texts"}}') AS j,
    {{- else}}
    JSONExtract(line, '{{template "texts"}}') AS j,
    {{- end}}
    isValidUTF8(line) AND isValidJSON(line) AND JSONType(line) = 'Object' AS readable,
    match(j_song, '^[{[]') AND JSONType(line, {{if .Mapped}}{c2:String}{{else}}'songId'{{end}}) != 'String' AS nested_song,
    match(j_artist, '^[{[]') AND JSONType(line, {{if .Mapped}}{c3:String}{{else}}'artistId'{{end}}) != 'String' AS nested_artist,
    -- As text, 1e3 is 1000.
    JSONType(line, {{if .Mapped}}{c4:String}{{else}}'timestamp'{{end}}) = 'Double' AS broken_time,
    JSONType(line, {{if .Mapped}}{c8:String}{{else}}'duration'{{end}}) = 'Double' AS broken_duration,
    {{- else}}
    CAST(({{range $i, $n := .Fields}}{{if $i}}, {{end}}{{template "field" $n}}{{end}}), '{{template "texts"}}') AS j,
    arrayAll(text -> isValidUTF8(ifNull(text, '')),
        [j.eventId, j.userId, j.songId, j.artistId, j.region, j.deviceType, j.context]) AS readable,
    false AS nested_song,
    false AS nested_artist,
    false AS broken_time,
    false AS broken_duration,
    {{- end}}
    ifNull(j.userId, '') AS j_user,
    {{- if .Hashed}}
    match(j_user, '^[0-9a-f]{64}$') AS ok_user,
    j_user AS hash,
    'userId must be the 64 hex digits of its hash' AS why_user,
    {{- else}}
    length(j_user) BETWEEN 1 AND 128 AS ok_user,
    if(j_user = '', '', lower(hex(HMAC('sha256', j_user, {pepper:String})))) AS hash,
    'userId must be 1 to 128 bytes' AS why_user,
    {{- end}}
    ifNull(j.timestamp, '') AS j_time,
    -- Integers are milliseconds, or seconds when they are small; other times are
    -- of RFC 3339, taken apart here since no parser is as strict.
    match(j_time, '^-?(0|[1-9][0-9]{0,17})$') AND NOT broken_time AS is_number,
    toInt64OrZero(j_time) AS number,
    if(is_number, [], extractGroups(j_time, '^([0-9]{4})-([0-9]{2})-([0-9]{2})T([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])(?:[.]([0-9]+))?(?:Z|([+-])([01][0-9]|2[0-4]):([0-5][0-9]|60))$')) AS p,
    makeDate32(toUInt16OrZero(p[1]), toUInt8OrZero(p[2]), toUInt8OrZero(p[3])) AS p_date,
    multiIf(
        is_number, if(number BETWEEN -99999999999 AND 99999999999, number * 1000, number),
        -- A day that there is not becomes another one.
        empty(p) OR formatDateTime(p_date, '%Y-%m-%d') != substring(j_time, 1, 10), NULL,
        toInt64(p_date) * 86400000 + (toInt64OrZero(p[4]) * 3600 + toInt64OrZero(p[5]) * 60 + toInt64OrZero(p[6])) * 1000
            + toInt64OrZero(substring(rightPad(p[7], 3, '0'), 1, 3))
            - if(p[8] = '-', -1, 1) * (toInt64OrZero(p[9]) * 60 + toInt64OrZero(p[10])) * 60000) AS j_ms,
    ifNull(j_ms BETWEEN 0 AND {now:Int64} + {{.MaxAheadMillis}}, false) AS ok_time,
    multiIf(isNull(j_ms), 'timestamp must be integer epoch milliseconds or an RFC 3339 time',
            j_ms < 0, 'timestamp is before 1970', 'timestamp is too far ahead') AS why_time,
    -- The first / of a context stands for a colon, if there was none before it.
    replaceRegexpOne(ifNull(j.context, ''), '^([^:/]*)/', '\\1:') AS j_context,
    {{- template "play fields" .}}
SELECT
    {{- template "play columns" .}},
    {file:UInt32} AS file,
    row,
    multiIf(
        NOT readable, '{{if .Lines}}must be one JSON object{{else}}must be valid UTF-8{{end}}',
        ok, '',
        {{- template "play reasons" .}}
    ) AS reason,
    multiIf(
        reason = '', '',
        NOT readable, toJSONString(map('file', {path:String}, 'row', toString(row))),
        -- Numbers as numbers, so that what is mended here is a play.
        replaceRegexpAll(toJSONString(mapFilter((name, text) -> isNotNull(text), map(
            'eventId', j.eventId, 'userId', hash, 'songId', j.songId, 'artistId', j.artistId, 'timestamp', j.timestamp, 'region', j.region,
            'deviceType', j.deviceType, 'context', j.context, 'duration', j.duration, 'file', {path:String}, 'row', toString(row)))),
            '"(timestamp|duration|row)":"(-?[0-9]{1,18})"', '"\\1":\\2')) AS raw,
    hash AS userHash,
    dictGetOrDefault('segments_of_user', 'segments', reinterpretAsUInt128(unhex(substring(hash, 1, 32))), []) AS segments
FROM
(
    SELECT rowNumberInAllBlocks() + 1 AS row, tuple(*) AS t
    FROM {{template "source" .Source}}
)
{{- if .Lines}}
WHERE notEmpty(trimBoth(t.1, ' \t\r')) -- a pattern would not match what is no UTF-8
{{- end}}
SETTINGS
    log_queries = 0, -- a parameter is the secret that ids are hashed with
    max_threads = 1, -- rows are numbered as they come
    max_insert_threads = 1,
    input_format_parquet_preserve_order = 1,
    input_format_with_names_use_header = 1,
    input_format_skip_unknown_fields = 1,
    input_format_parquet_allow_missing_columns = 1,
    format_csv_null_representation = '\\N'
{{- if eq .Source "input"}}
FORMAT {{.Format}}
{{- end}}

{{define "texts" -}}
    Tuple(
        eventId Nullable(String), userId Nullable(String), songId Nullable(String), artistId Nullable(String),
        timestamp Nullable(String), region Nullable(String), deviceType Nullable(String),
        context Nullable(String), duration Nullable(String))
{{- end}}

{{define "field"}}
    {{- if .Instant}}toString(toUnixTimestamp64Milli(t.{{.N}})){{else if .Blank}}nullIf(t.{{.N}}, ''){{else}}t.{{.N}}{{end}}
{{- end}}
