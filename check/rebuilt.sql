-- How far a rebuild has come.
SELECT sumIf(plays, dim = 'global') AS plays, count() AS counts,
    (SELECT sum(next) FROM (SELECT max(wm) AS next FROM {{.Stage}} WHERE dim = '_wm' GROUP BY val)) AS reached
FROM {{.Stage}}
