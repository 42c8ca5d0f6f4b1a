package backfill

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// A Report says what came of the rows of each file. Of a backfill that was
// interrupted and is finished by another one, only the first report tells.
type Report struct {
	Files   []FileReport `json:"files"`
	Changed []string     `json:"changed,omitempty"` // files that were loaded before, with other content
	Days    []DayPlays   `json:"days"`
	Reasons []Reason     `json:"reasons"` // of rejects, most frequent first, at most 100
	Phases  []Phase      `json:"phases"`

	Rows, Appended, Published, Repeats, Rejected uint64
}

// A FileReport is what came of the rows of one file: Rows is the sum of the
// next four.
type FileReport struct {
	Path         string    `json:"path"`
	Size         uint64    `json:"size"`                  // bytes
	LoadedBefore time.Time `json:"loadedBefore,omitzero"` // then nothing was done
	Rows         uint64    `json:"rows"`
	Appended     uint64    `json:"appended"`  // to the log
	Published    uint64    `json:"published"` // to Kafka
	Repeats      uint64    `json:"repeats"`   // of events that count already
	Rejected     uint64    `json:"rejected"`
	FirstDay     time.Time `json:"firstDay,omitzero"` // of the new plays
	LastDay      time.Time `json:"lastDay,omitzero"`
}

// DayPlays are the new plays of a day (UTC).
type DayPlays struct {
	Day   time.Time `json:"day"`
	Plays uint64    `json:"plays"`
}

// A Reason is why rows were rejected, and where the first of them is.
type Reason struct {
	Reason    string `json:"reason"`
	Rows      uint64 `json:"rows"`
	FirstFile string `json:"firstFile"`
	FirstRow  uint64 `json:"firstRow"`
}

// A Phase is how long something took.
type Phase struct {
	Name string        `json:"name"`
	Took time.Duration `json:"took"` // ns
}

func (r *Report) took(name string, d time.Duration) { r.Phases = append(r.Phases, Phase{name, d}) }

func (r *Report) add(f FileReport) {
	r.Files = append(r.Files, f)
	r.Rows += f.Rows
	r.Appended += f.Appended
	r.Published += f.Published
	r.Repeats += f.Repeats
	r.Rejected += f.Rejected
}

// WriteText writes the report for people.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "file\trows\tto the log\tthrough Kafka\trepeats\trejected")
	for _, f := range r.Files {
		if !f.LoadedBefore.IsZero() {
			fmt.Fprintf(table, "%s\tloaded already, %s\n", f.Path, f.LoadedBefore.Format(time.RFC3339))
			continue
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\n", f.Path, f.Rows, f.Appended, f.Published, f.Repeats, f.Rejected)
	}
	fmt.Fprintf(table, "all\t%d\t%d\t%d\t%d\t%d\n", r.Rows, r.Appended, r.Published, r.Repeats, r.Rejected)
	for _, path := range r.Changed {
		fmt.Fprintf(table, "\n%s has changed since it was loaded: only its new rows count\n", path)
	}
	if len(r.Days) > 0 {
		fmt.Fprintln(table, "\nday\tnew plays")
		for _, d := range r.Days {
			fmt.Fprintf(table, "%s\t%d\n", d.Day.Format(time.DateOnly), d.Plays)
		}
	}
	if len(r.Reasons) > 0 {
		fmt.Fprintln(table, "\nrejected\twhy\tfirst at")
		for _, reason := range r.Reasons {
			fmt.Fprintf(table, "%d\t%s\t%s row %d\n", reason.Rows, reason.Reason, reason.FirstFile, reason.FirstRow)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, b.String())
	return err
}
