-- The epoch that is being read.
SELECT maxOrDefault(epoch) FROM epochs
