-- The topics that plays were read from, oldest first.
SELECT epoch, topic, topicId, since
FROM epochs
ORDER BY epoch
