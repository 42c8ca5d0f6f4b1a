{{define "play fields"}}
    -- The fields of a play, and whether each keeps its rule. The statement has
    -- the texts that were sent as j, and says itself what user ids, times and
    -- contexts are to it: j_user, j_ms, j_context, ok_user, ok_time; as nested_song
    -- and nested_artist whether an id was no text, and as broken_duration whether
    -- that was no integer.
    ifNull(j.eventId, '') AS j_event,
    ifNull(j.songId, '') AS j_song,
    ifNull(j.artistId, '') AS j_artist,
    ifNull(j.region, '') AS j_region,
    ifNull(j.deviceType, '') AS j_device,
    toInt32OrNull(ifNull(j.duration, '')) AS j_duration,
    splitByChar('/', j_region)[1] AS j_country,
    '[\\x00-\\x1f\\x7f-\\x9f]' AS control, -- of Unicode
    match(j_event, '^[A-Za-z0-9_.:-]{1,64}$') AS ok_event,
    length(j_song) BETWEEN 1 AND 64 AND NOT match(j_song, control) AND NOT nested_song AS ok_song,
    length(j_artist) BETWEEN 1 AND 64 AND NOT match(j_artist, control) AND NOT nested_artist AS ok_artist,
    isNull(j.region) OR j_country IN ({{range $i, $c := .Countries}}{{if $i}},{{end}}'{{$c}}'{{end}})
        AND (length(j_region) = 2 OR length(j_region) BETWEEN 4 AND 67 AND substring(j_region, 3, 1) = '/')
        AND NOT match(j_region, control) AS ok_region,
    isNull(j.deviceType) OR match(j_device, '^[a-z][a-z0-9_-]{0,31}$') AS ok_device,
    isNull(j.context) OR match(j_context, '^[a-z][a-z0-9_-]{0,31}:')
        AND length(j_context) - position(j_context, ':') BETWEEN 1 AND 128 -- bytes, which a pattern does not count
        AND NOT match(j_context, control) AS ok_context,
    isNull(j.duration) OR ifNull(j_duration BETWEEN 0 AND 86400, false) AND NOT broken_duration AS ok_duration,
    ok_event AND ok_user AND ok_song AND ok_artist AND ok_time AND ok_region AND ok_device AND ok_context AND ok_duration AS ok
{{end}}

{{define "play reasons"}}
    -- What is wrong, of a play that is not ok: why_user and why_time are the
    -- statement's.
        arrayStringConcat(arrayFilter(m -> m != '', [
            multiIf(ok_event, '', isNull(j.eventId), 'eventId is required', 'eventId must be 1 to 64 characters of A-Z a-z 0-9 _ . : -'),
            multiIf(ok_user, '', isNull(j.userId), 'userId is required', why_user),
            multiIf(ok_song, '', isNull(j.songId), 'songId is required', 'songId must be 1 to 64 bytes without control characters'),
            multiIf(ok_artist, '', isNull(j.artistId), 'artistId is required', 'artistId must be 1 to 64 bytes without control characters'),
            multiIf(ok_time, '', isNull(j.timestamp), 'timestamp is required', why_time),
            if(ok_region, '', 'region must be an ISO 3166-1 alpha-2 country, optionally with /city'),
            if(ok_device, '', 'deviceType must be a lower-case word of at most 32 characters'),
            if(ok_context, '', 'context must be kind:ID'),
            if(ok_duration, '', 'duration must be whole seconds from 0 to 86400')
        ]), '; ')
{{end}}

{{define "play columns"}}
    reinterpretAsUInt128(sipHash128(j_event)) AS key,
    fromUnixTimestamp64Milli(ifNull(j_ms, 0), 'UTC') AS ts,
    if(ok_event, j_event, '') AS eventId,
    j_song AS songId,
    j_artist AS artistId,
    j_country AS country,
    j_region AS region,
    j_device AS device,
    substring(j_context, 1, position(j_context, ':') - 1) AS contextKind,
    substring(j_context, position(j_context, ':') + 1) AS contextId,
    ifNull(j_duration, -1) AS duration,
    NOT (duration BETWEEN 0 AND {{.MinPlaySeconds}} - 1) AS counted
{{end}}
