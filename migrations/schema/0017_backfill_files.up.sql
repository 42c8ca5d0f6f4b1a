-- The files that were backfilled. One of the same path and print is not loaded
-- again; one with another print has changed. Its plays that count lie in the log
-- under the source of backfills, among the offsets [fromKoff, toKoff), which the
-- files of a run share; those young enough came through Kafka instead.
CREATE TABLE IF NOT EXISTS backfill_files
(
    path       String, -- or URL
    print      String, -- of the content: a checksum, or the store's etag
    size       UInt64, -- in bytes
    rows       UInt64, -- in the file: the sum of the following four
    appended   UInt64, -- to the log
    published  UInt64, -- to Kafka
    repeats    UInt64, -- of plays of the log, of an earlier file or row
    rejected   UInt64,
    firstDay   Date,   -- of its plays that were new; 1970 when there are none
    lastDay    Date,
    fromKoff   UInt64,
    toKoff     UInt64,
    rejectKoff UInt64, -- its rejects are kept from this offset on
    loadedAt   DateTime64(3, 'UTC') -- when its run began
)
ENGINE = ReplacingMergeTree
ORDER BY (path, print)
