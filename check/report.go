package check

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// A Report is what a check found.
type Report struct {
	At          time.Time    `json:"at"`
	Took        Duration     `json:"tookSeconds"`
	Days        int          `json:"days"`
	Kafka       Kafka        `json:"kafka"`
	Log         Log          `json:"log"`
	Rollups     []Rollup     `json:"rollups"`
	Charts      Charts       `json:"charts"`
	Retention   []Retained   `json:"retention"`
	Repairs     []Repair     `json:"repairs"`
	Differences []Difference `json:"differences"`
	// Notes are what the reader should know, such as what was left out and why.
	Notes []string `json:"notes"`
	// Unchecked says what could not be compared, and why.
	Unchecked []string `json:"unchecked"`
}

// A Duration is written to JSON in seconds.
type Duration time.Duration

func (d Duration) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.3f", time.Duration(d).Seconds()), nil
}

func (d Duration) String() string { return time.Duration(d).Round(time.Millisecond).String() }

// A Difference is something that is not as it must be.
type Difference struct {
	Check string `json:"check"`
	Where string `json:"where"`
	What  string `json:"what"`
}

// Kafka is the topic, as ClickHouse reads it.
type Kafka struct {
	Topic      string      `json:"topic"`
	Group      string      `json:"group"`
	Epoch      uint16      `json:"epoch"`
	Partitions []Partition `json:"partitions"`
}

// A Partition is one of the topic, and the source of that number in the log.
type Partition struct {
	Partition int32  `json:"partition"`
	Source    uint32 `json:"source"`
	Start     int64  `json:"start"`     // the first offset Kafka has
	Committed int64  `json:"committed"` // the next offset ClickHouse reads
	End       int64  `json:"end"`       // the next offset Kafka gives
	Next      uint64 `json:"next"`      // the next offset of the log
	Lag       int64  `json:"lag"`       // messages
	// Every offset of [From, Committed) was looked for.
	From    uint64 `json:"from"`
	Plays   uint64 `json:"plays"`
	Repeats uint64 `json:"repeats"`
	Rejects uint64 `json:"rejects"`
	Empty   uint64 `json:"empty"`   // no message, or one without content
	Lost    uint64 `json:"lost"`    // messages that are nowhere
	Unknown uint64 `json:"unknown"` // nowhere, and Kafka cannot tell any more
}

// Log is what was found of the log itself.
type Log struct {
	Plays        uint64 `json:"plays"`
	EventsTwice  uint64 `json:"eventsTwice"`
	OffsetsTwice uint64 `json:"offsetsTwice"`
	Backfills    int    `json:"backfills"`  // that were finished
	Backfilled   uint64 `json:"backfilled"` // plays of theirs that were appended
}

// A Rollup is one, against the log.
type Rollup struct {
	Name       string            `json:"name"`
	Fill       string            `json:"fill"` // its state
	Behind     uint64            `json:"behindPlays"`
	BehindFor  Duration          `json:"behindSeconds"`
	Partitions []RollupPartition `json:"partitions"`
}

// A RollupPartition is one partition of a rollup.
type RollupPartition struct {
	Partition string `json:"partition"`
	Plays     uint64 `json:"plays"`    // of dimension global
	Counted   uint64 `json:"counted"`  // plays of all dimensions
	Differs   bool   `json:"differs"`  // also after a repair that did not help
	Repaired  bool   `json:"repaired"` // it did differ
}

// Charts are the served charts that were counted anew.
type Charts struct {
	Compared int `json:"compared"`
	Wrong    int `json:"wrong"`
	Skipped  int `json:"skipped"`
	Entries  int `json:"entries"` // of the charts that were compared
}

// Retained is a table that keeps rows for some days only.
type Retained struct {
	Table   string `json:"table"`
	Days    int    `json:"days"`
	Overdue uint64 `json:"overdue"` // rows that should be gone
}

// A Repair is a rollup partition that was rebuilt.
type Repair struct {
	Rollup    string   `json:"rollup"`
	Partition string   `json:"partition"`
	Was       []string `json:"was"`   // how it differed
	Plays     uint64   `json:"plays"` // it counts now
	Took      Duration `json:"tookSeconds"`
	Paused    Duration `json:"pausedSeconds"` // for how long the fill was stopped
}

// Exact reports whether nothing differs.
func (r Report) Exact() bool { return len(r.Differences) == 0 }

// Lost is how many messages of the topic are nowhere.
func (k Kafka) Lost() (n uint64) {
	for _, p := range k.Partitions {
		n += p.Lost
	}
	return n
}

// WriteText writes the report for people.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }
	flush := func() { _ = t.Flush() } // into memory

	fmt.Fprintf(&b, "Kafka: topic %s, group %s, epoch %d; every offset since %d days ago\n", r.Kafka.Topic, r.Kafka.Group, r.Kafka.Epoch, r.Days)
	row("  partition\tstart\tcommitted\tend\tlog's next\tlag\tplays\trepeats\trejects\tempty\tLOST\tunknown")
	for _, p := range r.Kafka.Partitions {
		row("  %d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d", p.Partition, p.Start, p.Committed, p.End, p.Next, p.Lag,
			p.Plays, p.Repeats, p.Rejects, p.Empty, p.Lost, p.Unknown)
	}
	flush()
	fmt.Fprintf(&b, "\nLog: %d plays; %d events twice, %d offsets twice; %d plays of %d backfills\n",
		r.Log.Plays, r.Log.EventsTwice, r.Log.OffsetsTwice, r.Log.Backfilled, r.Log.Backfills)

	fmt.Fprintf(&b, "\nRollups against the log, every dimension, value, song and hour or day\n")
	row("  rollup\tpartition\tplays\tcounts\t")
	for _, rollup := range r.Rollups {
		for _, p := range rollup.Partitions {
			row("  %s\t%s\t%d\t%d\t%s", rollup.Name, p.Partition, p.Plays, p.Counted, p.state())
		}
	}
	flush()
	row("  rollup\tbehind by plays\tand by\tfill")
	for _, rollup := range r.Rollups {
		row("  %s\t%d\t%s\t%s", rollup.Name, rollup.Behind, rollup.BehindFor, rollup.Fill)
	}
	flush()

	fmt.Fprintf(&b, "\nServed charts, counted anew from the log: %d compared (%d entries), %d wrong, %d skipped\n",
		r.Charts.Compared, r.Charts.Entries, r.Charts.Wrong, r.Charts.Skipped)

	var overdue uint64
	for _, table := range r.Retention {
		overdue += table.Overdue
	}
	fmt.Fprintf(&b, "\nRetention: %d rows of %d tables are older than they may be\n", overdue, len(r.Retention))

	for _, repair := range r.Repairs {
		fmt.Fprintf(&b, "\nRepaired: %s %s, %d plays, in %s; its fill stood still for %s. It differed:\n  %s\n", repair.Rollup, repair.Partition,
			repair.Plays, repair.Took, repair.Paused, strings.Join(repair.Was, "\n  "))
	}
	list := func(title string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(&b, "\n%s\n  %s\n", title, strings.Join(lines, "\n  "))
		}
	}
	list("Notes", r.Notes)
	list("Not checked", r.Unchecked)
	differences := make([]string, len(r.Differences))
	for i, d := range r.Differences {
		differences[i] = fmt.Sprintf("%s: %s: %s", d.Check, d.Where, d.What)
	}
	list("DIFFERENCES", differences)
	if len(differences) == 0 {
		fmt.Fprintf(&b, "\nNothing differs. (%s)\n", r.Took)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (p RollupPartition) state() string {
	switch {
	case p.Differs:
		return "DIFFERS"
	case p.Repaired:
		return "repaired"
	}
	return "equal"
}
