-- How many rows are staged that are not plays; the first offset that nothing has
-- ever had; the numbered plays, and those of them that are older than the cut.
SELECT
    (SELECT count() FROM backfill_rows WHERE reason != '') AS rejects,
    greatest(
        ifNull((SELECT max(koff) + 1 FROM plays WHERE src = {source:UInt32} GROUP BY src), 0),
        (SELECT maxOrDefault(toKoff) FROM backfill_files),
        (SELECT maxOrDefault(wm) FROM rollup_day WHERE dim = '_wm' AND val = toString({source:UInt32}))) AS next,
    (SELECT count() FROM backfill_plays) AS plays,
    (SELECT count() FROM backfill_plays WHERE ts < {cut:DateTime64(3, 'UTC')}) AS old
