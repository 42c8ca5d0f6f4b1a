-- How many plays of a piece the log has.
SELECT count()
FROM plays
WHERE {{template "hour" .}}
