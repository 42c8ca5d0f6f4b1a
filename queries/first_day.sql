-- The first day with plays; 1970 when there is none.
SELECT min(ts)
FROM rollup_day
WHERE dim = 'global'
