-- Plays with the position that owns their eventId, on their way to `seen` and
-- `plays` when it is their own, and to `plays_duplicates` when it is not. Null
-- keeps nothing.
--
-- The views that hang on this table commit in no fixed order, and a kill may
-- come between any two of them: judge heals every such state.
CREATE TABLE judged
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
    counted     Bool,
    ownerSrc    UInt32,
    ownerKoff   UInt64
)
ENGINE = Null
