-- Plays that are neither malformed nor repeats, on their way to `seen` and
-- `plays`. Nothing else may hang on this table: accepted_fill heals exactly
-- these two writes after a kill between them, in either order.
CREATE TABLE IF NOT EXISTS accepted
(
    src         UInt32,
    koff        UInt64,
    at          DateTime64(3, 'UTC'),
    key         UInt128,
    ts          DateTime64(3, 'UTC'),
    eventId     String,
    user        UInt128,
    songId      String,
    artistId    String,
    country     LowCardinality(String),
    region      LowCardinality(String),
    device      LowCardinality(String),
    contextKind LowCardinality(String),
    contextId   String,
    duration    Int32,
    segments    Array(LowCardinality(String)),
    counted     Bool
)
ENGINE = Null
