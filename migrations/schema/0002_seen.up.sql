-- Which log position owns an event id, for the 48 hours in which repeats are
-- recognised. key is sipHash128(eventId): 128 bits, because with 64 about one
-- run of 48 hours in a thousand would meet two events of one key and lose one.
--
-- A key below 2^32 is no event but the mark of the source of that number: its
-- koff says up to which offset all plays of the source that are in the log have
-- their row here (see judge).
CREATE TABLE IF NOT EXISTS seen
(
    key  UInt128,
    src  UInt32,
    koff UInt64
)
ENGINE = EmbeddedRocksDB(172800)
PRIMARY KEY key
SETTINGS optimize_for_bulk_insert = 0
