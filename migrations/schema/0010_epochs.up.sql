-- The topics that plays were read from, oldest first. A topic that is deleted
-- and made again under its name is another one, with another topicId: its
-- offsets begin anew, so its partitions must be other sources. The sources of
-- an epoch are epoch * 65536 + partition; the last epoch is the one being read.
CREATE TABLE IF NOT EXISTS epochs
(
    epoch   UInt16,
    topic   String,
    topicId String, -- given by Kafka
    since   DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
ORDER BY epoch
