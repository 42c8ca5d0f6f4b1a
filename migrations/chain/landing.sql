-- Where parsed messages land, block by block. Null keeps nothing: the one view
-- off the queue writes here, and the views below take it from here. Two views
-- directly off the queue would lose rows whenever one of them is detached.
CREATE TABLE landing
(
    src         UInt32,
    koff        UInt64,
    at          DateTime64(3, 'UTC'),
    topic       LowCardinality(String),
    partition   UInt16,
    producedAt  DateTime64(3, 'UTC'),
    reason      String, -- '' when the message is a play
    raw         String,
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
