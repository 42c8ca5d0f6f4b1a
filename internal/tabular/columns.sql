-- The columns of a file, and their types.
DESCRIBE TABLE {{template "source" .}}
SETTINGS describe_compact_output = 1
