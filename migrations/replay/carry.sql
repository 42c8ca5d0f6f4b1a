-- Carries over what Kafka cannot give again: rows of topics that are gone, of
-- backfills, and of offsets that Kafka has deleted by now.
INSERT INTO {{.Replay}}.{{.Table}}
SELECT * FROM {{.Live}}.{{.Table}}
WHERE NOT {{template "in Kafka"}}
SETTINGS max_partitions_per_insert_block = 0

{{define "in Kafka"}}
    (has({sources:Array(UInt32)}, src)
     AND koff >= arrayElement({starts:Array(UInt64)}, indexOf({sources:Array(UInt32)}, src)))
{{end}}
