-- The latest closedAt among a date's entries, those of killed runs included.
SELECT max(closedAt)
FROM closed_entries
WHERE period = {period:String} AND date = {date:Date}
