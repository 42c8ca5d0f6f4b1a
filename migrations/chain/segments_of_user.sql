-- The users' segments in memory, looked up once per play when it comes in.
CREATE DICTIONARY segments_of_user
(
    user     UInt128,
    segments Array(String)
)
PRIMARY KEY user
SOURCE(CLICKHOUSE(
    QUERY 'SELECT user, segments FROM {{.Database}}.user_segments FINAL'
    INVALIDATE_QUERY 'SELECT count(), max(updatedAt) FROM {{.Database}}.user_segments'
))
LAYOUT(COMPLEX_KEY_HASHED())
LIFETIME(MIN 1 MAX 2)
