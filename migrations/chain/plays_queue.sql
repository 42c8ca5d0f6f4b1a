-- The consumer of the topic: one message, one row, as bytes. Parsing is left to
-- plays_consume, which so sees what a row format hides (missing fields, wrong
-- types, two objects in one message) and still has the bytes of what it
-- rejects. Formats cannot fail on raw bytes, so no message stops a partition.
CREATE TABLE plays_queue (message String)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = {{quote .Brokers}},
    kafka_topic_list = {{quote .Topic}},
    kafka_group_name = {{quote .Group}},
    kafka_format = 'RawBLOB',
    kafka_handle_error_mode = 'stream',
    kafka_num_consumers = 1, -- one consumer, one order: judge relies on it
    kafka_thread_per_consumer = 0,
    kafka_max_block_size = 65000, -- less than max_block_size, so that a block stays one to the end
    kafka_flush_interval_ms = 250,
    kafka_poll_timeout_ms = 50,
    kafka_consumer_reschedule_ms = 50
