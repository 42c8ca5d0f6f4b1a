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
    ifNull(j.eventId, '') AS j_event,
    ifNull(j.userId, '') AS j_user,
    ifNull(j.songId, '') AS j_song,
    ifNull(j.artistId, '') AS j_artist,
    toInt64OrNull(ifNull(j.timestamp, '')) AS j_ms,
    ifNull(j.region, '') AS j_region,
    ifNull(j.deviceType, '') AS j_device,
    ifNull(j.context, '') AS j_context,
    toInt32OrNull(ifNull(j.duration, '')) AS j_duration,
    splitByChar('/', j_region)[1] AS j_country,
    '[\\x00-\\x1f\\x7f-\\x9f]' AS control, -- of Unicode
    ifNull(_timestamp_ms, now64(3)) AS produced,
    -- JSONExtract gives an object or array as its text: not an id.
    match(j_song, '^[{[]') AND JSONType(message, 'songId') != 'String' AS nested_song,
    match(j_artist, '^[{[]') AND JSONType(message, 'artistId') != 'String' AS nested_artist,
    match(j_event, '^[A-Za-z0-9_.:-]{1,64}$') AS ok_event,
    match(j_user, '^[0-9a-f]{64}$') AS ok_user,
    length(j_song) BETWEEN 1 AND 64 AND NOT match(j_song, control) AND NOT nested_song AS ok_song,
    length(j_artist) BETWEEN 1 AND 64 AND NOT match(j_artist, control) AND NOT nested_artist AS ok_artist,
    ifNull(j_ms BETWEEN toUnixTimestamp64Milli(produced) - {{.MaxAgeMillis}} - 3600000
                    AND toUnixTimestamp64Milli(produced) + {{.MaxAheadMillis}} + 3600000, false) AS ok_time,
    isNull(j.region) OR j_country IN ({{range $i, $c := .Countries}}{{if $i}},{{end}}'{{$c}}'{{end}})
        AND match(j_region, '^..($|/(?s:.){1,64}$)') AND NOT match(j_region, control) AS ok_region,
    isNull(j.deviceType) OR match(j_device, '^[a-z][a-z0-9_-]{0,31}$') AS ok_device,
    isNull(j.context) OR match(j_context, '^[a-z][a-z0-9_-]{0,31}:(?s:.){1,128}$') AND NOT match(j_context, control) AS ok_context,
    isNull(j.duration) OR ifNull(j_duration BETWEEN 0 AND 86400, false) AS ok_duration,
    ok_event AND ok_user AND ok_song AND ok_artist AND ok_time AND ok_region AND ok_device AND ok_context AND ok_duration AS ok
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
        arrayStringConcat(arrayFilter(m -> m != '', [
            multiIf(ok_event, '', isNull(j.eventId), 'eventId is required', 'eventId must be 1 to 64 characters of A-Z a-z 0-9 _ . : -'),
            multiIf(ok_user, '', isNull(j.userId), 'userId is required', 'userId must be the 64 hex digits of its hash'),
            multiIf(ok_song, '', isNull(j.songId), 'songId is required', 'songId must be 1 to 64 bytes without control characters'),
            multiIf(ok_artist, '', isNull(j.artistId), 'artistId is required', 'artistId must be 1 to 64 bytes without control characters'),
            multiIf(ok_time, '', isNull(j.timestamp), 'timestamp is required', isNull(j_ms), 'timestamp must be integer epoch milliseconds',
                    j_ms > toUnixTimestamp64Milli(produced), 'timestamp is too far ahead', 'timestamp is too old; send older plays by backfill'),
            if(ok_region, '', 'region must be an ISO 3166-1 alpha-2 country, optionally with /city'),
            if(ok_device, '', 'deviceType must be a lower-case word of at most 32 characters'),
            if(ok_context, '', 'context must be kind:ID'),
            if(ok_duration, '', 'duration must be whole seconds from 0 to 86400')
        ]), '; ')
    ) AS reason,
    if(ok, '', message) AS raw,
    reinterpretAsUInt128(sipHash128(j_event)) AS key,
    fromUnixTimestamp64Milli(ifNull(j_ms, 0), 'UTC') AS ts,
    if(ok_event, j_event, '') AS eventId,
    reinterpretAsUInt128(unhex(substring(j_user, 1, 32))) AS user,
    j_song AS songId,
    j_artist AS artistId,
    j_country AS country,
    j_region AS region,
    j_device AS device,
    substring(j_context, 1, position(j_context, ':') - 1) AS contextKind,
    substring(j_context, position(j_context, ':') + 1) AS contextId,
    ifNull(j_duration, -1) AS duration,
    dictGetOrDefault('{{.Segments}}.segments_of_user', 'segments', user, []) AS segments,
    NOT (duration BETWEEN 0 AND {{.MinPlaySeconds}} - 1) AS counted
FROM plays_queue
