-- Which message owns the event's id, of the last 48 hours: a point read. The
-- key is as plays_consume makes it.
SELECT src, koff
FROM seen
WHERE key = reinterpretAsUInt128(sipHash128({event:String}))
