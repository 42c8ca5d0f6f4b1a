-- The tables that are exchanged, by their identity. The row set is written at
-- once: when it is there, the switch has begun and must be finished.
INSERT INTO switching (name, id)
SELECT name, uuid FROM system.tables
WHERE database = currentDatabase() AND name IN {names:Array(String)}
