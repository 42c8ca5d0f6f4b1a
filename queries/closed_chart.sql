-- A revision of a closed chart, or the latest one.
SELECT revision, closedAt, totalPlays
FROM closed_charts
WHERE period = {period:String} AND date = {date:Date} AND dim = {dim:String} AND val = {val:String}
  AND ({revision:UInt32} = 0 OR revision = {revision:UInt32})
ORDER BY closedAt DESC
LIMIT 1
