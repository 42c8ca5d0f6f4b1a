package loader

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

// A ReplayReport says what came of rejected messages.
type ReplayReport struct {
	DryRun         bool
	Messages       int
	Sent           int // or would be, in a dry run
	Wrong          int // still break a rule
	Counted        int // their events count already
	SentBefore     int // their events were sent again once already
	Failed         int // Kafka did not acknowledge them
	ReplayedBefore int // lines whose messages were sent again already
	Uncorrected    int // lines without a play

	reasons map[string]*reasonOutcome
	errors  map[string]int
}

type reasonOutcome struct{ messages, sent int }

func newReplayReport(dryRun bool) ReplayReport {
	return ReplayReport{DryRun: dryRun, reasons: map[string]*reasonOutcome{}, errors: map[string]int{}}
}

// maxListed bounds the reasons that are told apart.
const maxListed = 200

const others = "(other reasons)"

func (r *ReplayReport) count(line ReplayLine) {
	r.Messages++
	reason := line.Reason
	if r.reasons[reason] == nil && len(r.reasons) >= maxListed {
		reason = others
	}
	if r.reasons[reason] == nil {
		r.reasons[reason] = &reasonOutcome{}
	}
	r.reasons[reason].messages++
	switch line.Outcome {
	case outcomeSent:
		r.Sent++
		r.reasons[reason].sent++
	case outcomeWrong:
		r.Wrong++
		for _, e := range line.Errors {
			if _, listed := r.errors[e]; !listed && len(r.errors) >= maxListed {
				e = others
			}
			r.errors[e]++
		}
	case outcomeCounted:
		r.Counted++
	case outcomeSentBefore:
		r.SentBefore++
	case outcomeFailed:
		r.Failed++
	}
}

// WriteText writes the report for people.
func (r ReplayReport) WriteText(w io.Writer) error {
	sent := "sent again"
	if r.DryRun {
		sent = "would be sent"
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(r.reasons) > 0 {
		fmt.Fprintf(table, "MESSAGES\t%s\tREJECTED BECAUSE\n", sent)
		for _, reason := range slices.SortedFunc(maps.Keys(r.reasons), func(a, b string) int {
			return cmp.Or(r.reasons[b].messages-r.reasons[a].messages, cmp.Compare(a, b))
		}) {
			fmt.Fprintf(table, "%d\t%d\t%s\n", r.reasons[reason].messages, r.reasons[reason].sent, reason)
		}
		fmt.Fprintln(table)
	}
	if len(r.errors) > 0 {
		fmt.Fprint(table, "MESSAGES\tSTILL WRONG\n")
		for _, e := range slices.SortedFunc(maps.Keys(r.errors), func(a, b string) int {
			return cmp.Or(r.errors[b]-r.errors[a], cmp.Compare(a, b))
		}) {
			fmt.Fprintf(table, "%d\t%s\n", r.errors[e], e)
		}
		fmt.Fprintln(table)
	}
	fmt.Fprintf(table, "%d rejected: %d %s, %d still wrong", r.Messages, r.Sent, sent, r.Wrong)
	for _, more := range []struct {
		n    int
		what string
	}{
		{r.Counted, "count already"},
		{r.SentBefore, "were sent again before and rejected again, or repeat one that was (see --again)"},
		{r.Failed, "not acknowledged by Kafka"},
	} {
		if more.n > 0 {
			fmt.Fprintf(table, ", %d %s", more.n, more.what)
		}
	}
	fmt.Fprintln(table)
	if r.ReplayedBefore > 0 || r.Uncorrected > 0 {
		fmt.Fprintf(table, "lines left out: %d whose messages were sent again before, %d without a play\n", r.ReplayedBefore, r.Uncorrected)
	}
	return table.Flush()
}
