-- The files that a path or URL with wildcards stands for.
SELECT _path AS path, toUInt64(ifNull(_size, 0)) AS size, toUnixTimestamp(ifNull(_time, toDateTime(0))) AS changed, {{if eq . "file"}}''{{else}}ifNull(_etag, ''){{end}} AS etag
FROM {{template "source" .}}
ORDER BY path
