-- How many plays of the log a rollup has not counted yet.
SELECT count()
FROM plays
WHERE koff >= least(
    (SELECT maxMap(map(toUInt32OrZero(val), wm)) FROM rollup_hour WHERE dim = '_wm')[src],
    (SELECT maxMap(map(toUInt32OrZero(val), wm)) FROM rollup_day WHERE dim = '_wm')[src])
