-- The first offset of a source, from some offset on, that has a play.
SELECT min(koff)
FROM plays
WHERE src = {src:UInt32} AND koff >= {from:UInt64}
