-- The week in which the first plays were counted, whenever those happened; 1970
-- when none were.
SELECT toDateTime(min(week), 'UTC')
FROM rollup_day
