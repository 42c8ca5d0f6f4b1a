-- What ClickHouse reads plays from: the topic and group of its consumer, and
-- the topic's number and identity when that was set up.
SELECT
    extract(t.engine_full, 'kafka_topic_list = \'([^\']*)\'') AS topic,
    extract(t.engine_full, 'kafka_group_name = \'([^\']*)\'') AS group,
    e.epoch AS epoch,
    e.topicId AS topicId
FROM (SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = 'plays_queue') AS t
CROSS JOIN (SELECT epoch, topicId FROM epochs ORDER BY epoch DESC LIMIT 1) AS e
