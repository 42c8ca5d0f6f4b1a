-- The backfills of a time in which the log keeps every play: how many plays each
-- has appended by its own account, and how many of its offsets are in the log. An
-- erasure takes away some of them, rightly.
WITH
    (SELECT maxOrDefault(at) FROM rewrites WHERE reason ILIKE 'eras%') AS erasure,
    runs AS
    (
        SELECT fromKoff, toKoff, min(loadedAt) AS began, sum(appended) AS appended
        FROM backfill_files FINAL
        WHERE loadedAt >= {kept:DateTime64(3, 'UTC')} AND toKoff > fromKoff
        GROUP BY fromKoff, toKoff
    )
SELECT r.fromKoff AS fromKoff, r.toKoff AS toKoff, r.appended AS appended, l.found AS found, erasure > r.began AS erased
FROM runs AS r
LEFT JOIN
(
    -- Runs do not overlap: an offset is of the last one that begins below it, or
    -- of one that is not finished.
    SELECT range.1 AS fromKoff, count() AS found
    FROM
    (
        SELECT koff, arrayLast(run -> run.1 <= koff, (SELECT arraySort(groupArray((fromKoff, toKoff))) FROM runs)) AS range
        FROM plays
        WHERE src = {source:UInt32}
    )
    WHERE koff >= range.1 AND koff < range.2
    GROUP BY fromKoff
) AS l ON r.fromKoff = l.fromKoff
ORDER BY fromKoff
