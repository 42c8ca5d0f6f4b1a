-- Runs of jobs, newest first: the last of each job, of one job, or those in one
-- state. askedAt is what the table is partitioned by: who asks every second asks
-- for the latest only.
SELECT job, id, trigger, state, host, due, askedAt, startedAt, endedAt, rows, bytes, error, detail
FROM jobs FINAL
WHERE true
    {{- if .Job}} AND job = {job:String}{{end}}
    {{- if .ID}} AND id = {id:String}{{end}}
    {{- if .State}} AND state = {state:String}{{end}}
    {{- if .Since}} AND askedAt >= {since:DateTime64(3, 'UTC')}{{end}}
ORDER BY job, askedAt DESC, id DESC
LIMIT {limit:UInt32} BY job
