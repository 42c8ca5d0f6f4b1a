-- Marks the staged events that the log has: a piece of the keys at a time, so
-- that they fit into memory.
INSERT INTO backfill_rows (key, file)
SELECT DISTINCT reinterpretAsUInt128(sipHash128(eventId)) AS known, 0
FROM plays
WHERE ts >= {from:DateTime64(3, 'UTC')} AND ts < {to:DateTime64(3, 'UTC')}
  AND at >= {from:DateTime64(3, 'UTC')} - INTERVAL 2 DAY -- no play comes in that long before its time
  AND reinterpretAsUInt128(sipHash128(eventId)) IN
  (
      SELECT key
      FROM backfill_rows
      WHERE reason = '' AND file != 0
        AND key >= bitShiftLeft(toUInt128({first:UInt32}), 112)
        AND key <= bitOr(bitShiftLeft(toUInt128({last:UInt32}), 112), toUInt128('5192296858534827628530496329220095')) -- 2^112 - 1
        AND ts >= {from:DateTime64(3, 'UTC')} AND ts < {to:DateTime64(3, 'UTC')}
  )
