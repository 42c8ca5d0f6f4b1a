-- The time from which on staged plays go through Kafka: they follow the others.
SELECT if(count() = 0, toDateTime64('2200-01-01', 3, 'UTC'), min(ts)) FROM backfill_plays WHERE koff >= {to:UInt64}
