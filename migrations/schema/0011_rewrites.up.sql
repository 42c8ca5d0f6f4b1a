-- History was rewritten: whoever follows the log, or keeps what was counted
-- from the rollups, starts anew when there is one row more.
CREATE TABLE IF NOT EXISTS rewrites
(
    at     DateTime64(3, 'UTC') DEFAULT now64(3),
    reason String
)
ENGINE = MergeTree
ORDER BY at
