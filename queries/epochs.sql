-- The topics that plays were read from, oldest first.
SELECT epoch, topic, topicId
FROM epochs
ORDER BY epoch
