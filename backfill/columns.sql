-- The columns of a file, and their types.
SELECT name, type FROM (DESCRIBE TABLE {{template "source" .}})
