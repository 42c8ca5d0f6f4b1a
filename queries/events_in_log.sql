-- Which of the events the log has, among the plays that came in within a time.
SELECT DISTINCT eventId
FROM plays
WHERE at >= {from:DateTime64(3, 'UTC')} AND at < {to:DateTime64(3, 'UTC')}
  AND eventId IN {events:Array(String)}
