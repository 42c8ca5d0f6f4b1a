-- How many rows a table has of an hour, and their print over all columns.
SELECT count() AS rows, sum(cityHash64(*)) AS print
FROM {{template "rows" .}}
