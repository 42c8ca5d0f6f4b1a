-- The offsets [from, to) of a source that are in none of the tables.
SELECT arrayJoin(range({from:UInt64}, {to:UInt64})) AS koff
WHERE koff NOT IN
(
    SELECT koff FROM plays WHERE src = {src:UInt32} AND koff >= {from:UInt64} AND koff < {to:UInt64}
    UNION ALL
    SELECT koff FROM plays_duplicates WHERE src = {src:UInt32} AND koff >= {from:UInt64} AND koff < {to:UInt64}
    UNION ALL
    SELECT koff FROM plays_rejected WHERE src = {src:UInt32} AND koff >= {from:UInt64} AND koff < {to:UInt64}
)
ORDER BY koff
LIMIT {limit:UInt32}
