-- How often history was rewritten.
SELECT count()
FROM rewrites
