package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api"
)

// jobsCommand lists jobs.
type jobsCommand struct {
	Runs int  `help:"The last so many runs of each job, instead of a line for each job."`
	JSON bool `name:"json" help:"As GET /v1/admin/jobs answers."`
	clickhouseFlags
}

func (c *jobsCommand) Validate() error {
	var err error
	if c.Runs < 0 || c.Runs > api.MaxJobRuns {
		err = fmt.Errorf("--runs must be 0 to %d", api.MaxJobRuns)
	}
	return errors.Join(err, c.clickhouseFlags.check())
}

func (c *jobsCommand) Run(ctx context.Context, _ *slog.Logger, terminal console) (err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ledger, closeLedger, err := openLedger(c.clickhouseFlags)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLedger()) }()
	all, err := ledger.Jobs(ctx, max(c.Runs, 1))
	switch {
	case err != nil:
		return err
	case c.JSON:
		encoder := json.NewEncoder(terminal.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(api.NewJobsAnswer(all))
	case c.Runs > 0:
		return writeRuns(terminal.out, all)
	}
	return writeJobs(terminal.out, all)
}

func writeJobs(out io.Writer, all []topk.Job) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "job\tschedule\tnext\tlast\tstate\ttook\trows\tbytes\twhat")
	for _, job := range all {
		var last topk.JobRun
		if len(job.Runs) > 0 {
			last = job.Runs[0]
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", job.Name, cmp.Or(job.Schedule, "by hand"), atSecond(job.Next), runColumns(last))
	}
	return table.Flush()
}

func writeRuns(out io.Writer, all []topk.Job) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "job\trun\ttrigger\thost\tat\tstate\ttook\trows\tbytes\twhat")
	for _, job := range all {
		for _, run := range job.Runs {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", job.Name, run.ID, run.Trigger, cmp.Or(run.Host, "-"), runColumns(run))
		}
	}
	return table.Flush()
}

// runColumns are when, state, took, rows, bytes and what.
func runColumns(run topk.JobRun) string {
	if run.ID == "" {
		return "-\t-\t-\t-\t-\t"
	}
	took := "-"
	if !run.EndedAt.IsZero() {
		took = run.Took().Round(time.Millisecond).String()
	}
	at := run.StartedAt
	if at.IsZero() {
		at = run.AskedAt
	}
	return fmt.Sprintf("%s\t%s\t%s\t%d\t%d\t%s", atSecond(at), run.State, took, run.Rows, run.Bytes, cmp.Or(run.Error, run.Detail))
}

func atSecond(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}
