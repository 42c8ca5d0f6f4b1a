-- The same of an object, as it is read back.
SELECT count() AS rows, sum(cityHash64(*)) AS print
FROM {{template "object" .}}
