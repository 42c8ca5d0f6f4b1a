-- The counted plays of a span of event time below a position in the log.
SELECT src, koff, toUnixTimestamp64Milli(ts) AS ms, songId, country, region, device, segments, contextKind, contextId
FROM plays
WHERE at >= {atFrom:DateTime64(3, 'UTC')}
  AND ts >= {from:DateTime64(3, 'UTC')} AND ts < {to:DateTime64(3, 'UTC')}
  AND counted
  AND koff < transform(src, {sources:Array(UInt32)}, {nexts:Array(UInt64)}, toUInt64(0))
