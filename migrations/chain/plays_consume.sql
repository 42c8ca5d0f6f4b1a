-- Reads each message as a play, by the rules of topk.ParsePlay for its normal
-- form, and says what is wrong with it otherwise. Ages are judged against the
-- time of the message in Kafka, not the clock, so that a late or repeated
-- delivery judges alike; an hour of grace is left to what the gateway let pass.
CREATE MATERIALIZED VIEW plays_consume TO landing
AS
WITH
    JSONExtract(message, 'Tuple(
        eventId Nullable(String), userId Nullable(String), songId Nullable(String), artistId Nullable(String),
        timestamp Nullable(String), region Nullable(String), deviceType Nullable(String),
        context Nullable(String), duration Nullable(String))') AS j,
    ifNull(j.userId, '') AS j_user,
    toInt64OrNull(ifNull(j.timestamp, '')) AS j_ms,
    ifNull(j.context, '') AS j_context,
    ifNull(_timestamp_ms, now64(3)) AS produced,
    -- JSONExtract gives an object or array as its text: not an id.
    match(j_song, '^[{[]') AND JSONType(message, 'songId') != 'String' AS nested_song,
    match(j_artist, '^[{[]') AND JSONType(message, 'artistId') != 'String' AS nested_artist,
    false AS broken_duration,
    match(j_user, '^[0-9a-f]{64}$') AS ok_user,
    ifNull(j_ms BETWEEN toUnixTimestamp64Milli(produced) - {{.MaxAgeMillis}} - 3600000
                    AND toUnixTimestamp64Milli(produced) + {{.MaxAheadMillis}} + 3600000, false) AS ok_time,
    'userId must be the 64 hex digits of its hash' AS why_user,
    multiIf(isNull(j_ms), 'timestamp must be integer epoch milliseconds',
            j_ms > toUnixTimestamp64Milli(produced), 'timestamp is too far ahead', 'timestamp is too old; send older plays by backfill') AS why_time,
    {{- template "play fields" .}}
SELECT
    toUInt32({{.Epoch}} * 65536 + _partition) AS src,
    toUInt64(_offset) AS koff,
    greatest(now64(3, 'UTC'), (SELECT max(at) FROM plays)) AS at,
    _topic AS topic,
    toUInt16(_partition) AS partition,
    produced AS producedAt,
    multiIf(
        ok, '',
        NOT isValidJSON(message) OR JSONType(message) != 'Object', 'must be one JSON object',
        {{- template "play reasons" .}}
    ) AS reason,
    if(ok, '', message) AS raw,
    reinterpretAsUInt128(unhex(substring(j_user, 1, 32))) AS user,
    {{- template "play columns" .}},
    dictGetOrDefault('{{.Segments}}.segments_of_user', 'segments', user, []) AS segments
FROM plays_queue
