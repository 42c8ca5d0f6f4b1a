-- The entries of one revision of a closed chart.
SELECT rank, songId, plays, previousRank, peak, peakDate, periods, streak, movement
FROM closed_entries
WHERE period = {period:String} AND date = {date:Date} AND dim = {dim:String} AND val = {val:String}
  AND closedAt = {closedAt:DateTime64(3, 'UTC')}
ORDER BY rank
