-- Which rejects were corrected and sent again stays known. Those that Kafka
-- still has are rejected once more, under the numbers of the next epoch.
INSERT INTO {{.Replay}}.rejected_replays (src, koff, eventId, at)
SELECT if({{template "in Kafka"}}, src + 65536, src) AS src, koff, eventId, at
FROM {{.Live}}.rejected_replays FINAL
