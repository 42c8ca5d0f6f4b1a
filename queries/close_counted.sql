-- What closing_counts holds of a run: entries, charts, and all plays.
SELECT count() AS entries, countIf(rank = 1) AS charts, maxIf(totalPlays, dim = 'global') AS plays
FROM closing_counts
WHERE closedAt = {closedAt:DateTime64(3, 'UTC')}
