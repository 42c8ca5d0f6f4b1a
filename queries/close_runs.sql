-- How far closing has come.
SELECT period, date, step, closedAt, plays, rewrites, genres, charts, revisions
FROM close_runs FINAL
