-- The first day with plays; 1970 when there is none. From the projection of
-- rollup_day by value.
SELECT min(ts)
FROM rollup_day
WHERE dim = 'global'
