-- Which days of insertion have nothing of a window that is over.
ALTER TABLE rollup_hour ADD INDEX IF NOT EXISTS ts_range ts TYPE minmax GRANULARITY 1
