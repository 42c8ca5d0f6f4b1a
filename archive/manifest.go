package archive

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrDamaged: the archive is not what its manifests say.
var ErrDamaged = errors.New("the archive is damaged")

// formatVersion of manifests that this program writes and understands.
const formatVersion = 1

// A Manifest says what an hour of the log, or a day's catalog, consists of. It
// is written last: with it the objects are whole. It depends on the data alone,
// so that whoever writes it again after a kill writes the same.
type Manifest struct {
	Version  int       `json:"version"`
	Start    time.Time `json:"start"`    // of the hour or the day
	Revision int       `json:"revision"` // from 1; more when history was rewritten
	Objects  []Object  `json:"objects"`

	// Of hours only.
	Facts
	Epochs []Epoch `json:"epochs,omitempty"` // topics that plays were read from
}

// Facts are what tells two contents of an hour of the log apart.
type Facts struct {
	Plays   uint64    `json:"plays"`
	MinAt   time.Time `json:"minAt,omitzero"`
	MaxAt   time.Time `json:"maxAt,omitzero"`
	MinTS   time.Time `json:"minTimestamp,omitzero"`
	MaxTS   time.Time `json:"maxTimestamp,omitzero"`
	Sources []Source  `json:"sources,omitempty"` // by number
}

// A Source is what an hour has of one source of the log.
type Source struct {
	Source uint32 `json:"source"`
	Plays  uint64 `json:"plays"`
	First  uint64 `json:"first"` // offset
	Last   uint64 `json:"last"`
	Print  Print  `json:"print"` // of the positions and arrival times
}

// An Object is one Parquet file.
type Object struct {
	Key     string   `json:"key"`   // below the archive's prefix
	Table   string   `json:"table"` // that it is of
	Columns []Column `json:"columns"`
	Rows    uint64   `json:"rows"`
	Bytes   uint64   `json:"bytes"`
	Print   Print    `json:"print"`           // of the rows
	Spans   []Span   `json:"spans,omitempty"` // of the log
}

// A Column is one as ClickHouse has it.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// A Span is a piece of a source: the offsets [From, To) that came in within the
// hour.
type Span struct {
	Source uint32 `json:"source"`
	From   uint64 `json:"from"`
	To     uint64 `json:"to"`
}

// An Epoch is as in the table epochs.
type Epoch struct {
	Number  uint16    `json:"epoch"`
	Topic   string    `json:"topic"`
	TopicID string    `json:"topicId"`
	Since   time.Time `json:"since"`
}

// A Print is a sum of hashes, one per row, whatever the order of rows.
type Print uint64

// MarshalText gives 16 hex digits: JSON's numbers are not that long everywhere.
func (p Print) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%016x", uint64(p)), nil }

// UnmarshalText reads them.
func (p *Print) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 16, 64)
	*p = Print(n)
	return err
}

// state says how far the archive is as a whole.
type state struct {
	Until time.Time `json:"until"` // hours before that are archived
	// Rewritten is the last rewrite of history that all hours reflect. While
	// Rewriting is set, some reflect that one, and others do not yet.
	Rewritten time.Time `json:"rewritten,omitzero"`
	Rewriting time.Time `json:"rewriting,omitzero"`
	// Epochs tell whose log it is.
	Epochs []Epoch `json:"epochs"`
}

func (s state) equal(t state) bool {
	return s.Until.Equal(t.Until) && s.Rewritten.Equal(t.Rewritten) && s.Rewriting.Equal(t.Rewriting) && slices.Equal(s.Epochs, t.Epochs)
}

// isOf tells whether the archive is of a log with these epochs.
func (s state) isOf(epochs []Epoch) bool {
	for _, e := range s.Epochs {
		if !slices.ContainsFunc(epochs, func(own Epoch) bool {
			return own.Number == e.Number && own.Topic == e.Topic && own.TopicID == e.TopicID
		}) {
			return false
		}
	}
	return true
}

const stateKey = "state.json"

// The tables that are archived by the hour: the log, and what accounts for the
// offsets that it does not have.
const (
	logTable       = "plays"
	repeatsTable   = "plays_duplicates"
	rejectsTable   = "plays_rejected"
	catalogTable   = "songs"
	segmentsTable  = "user_segments"
	catalogPrefix  = "catalog"
	manifestSuffix = "/manifest.json"
)

func hourFolder(table string, hour time.Time) string {
	return hour.UTC().Format(table + "/date=2006-01-02/hour=15")
}

func dayFolder(day time.Time) string { return day.UTC().Format(catalogPrefix + "/date=2006-01-02") }

func objectKey(folder, table string, revision, n int) string {
	return fmt.Sprintf("%s/%s-r%d-%d.parquet", folder, table, revision, n)
}

// startOf reads the hour or the day off the key of a manifest.
func startOf(key string) (time.Time, bool) {
	folder, is := strings.CutSuffix(key, manifestSuffix)
	if !is {
		return time.Time{}, false
	}
	for _, layout := range []string{logTable + "/date=2006-01-02/hour=15", catalogPrefix + "/date=2006-01-02"} {
		if start, err := time.Parse(layout, folder); err == nil {
			return start, true
		}
	}
	return time.Time{}, false
}

// check refuses a manifest that is not of this start, or contradicts itself.
func (m Manifest) check(start time.Time) error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%w: manifest of %s: %s", ErrDamaged, start.Format(time.RFC3339), fmt.Sprintf(format, args...))
	}
	if m.Version != formatVersion {
		return wrong("it is of format %d, and this program knows %d", m.Version, formatVersion)
	}
	if !m.Start.Equal(start) || m.Revision < 1 {
		return wrong("it is of %s", m.Start.Format(time.RFC3339))
	}
	var plays, listed uint64
	for _, s := range m.Sources {
		plays += s.Plays
	}
	for _, o := range m.Objects {
		if o.Table == logTable {
			listed += o.Rows
		}
		for _, c := range o.Columns {
			if !plainColumn.MatchString(c.Name) {
				return wrong("column %q of %s", c.Name, o.Key)
			}
		}
		if o.Key == "" || !slices.Contains([]string{logTable, repeatsTable, rejectsTable, catalogTable, segmentsTable}, o.Table) {
			return wrong("object %q of table %q", o.Key, o.Table)
		}
	}
	if plays != m.Plays || listed != m.Plays {
		return wrong("%d plays, of which its sources have %d and its objects %d", m.Plays, plays, listed)
	}
	return nil
}

// plainColumn is a name that needs no quoting.
var plainColumn = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// sources are the facts' sources by number.
func (f Facts) sources() map[uint32]Source {
	all := make(map[uint32]Source, len(f.Sources))
	for _, s := range f.Sources {
		all[s.Source] = s
	}
	return all
}

// equal tells whether both are of the same plays.
func (f Facts) equal(g Facts) bool { return slices.Equal(f.Sources, g.Sources) }

// lacks gives how many plays of g, at least, are not in f.
func (f Facts) lacks(g Facts) (plays uint64) {
	has := f.sources()
	for _, s := range g.Sources {
		switch h := has[s.Source]; {
		case h.Plays < s.Plays:
			plays += s.Plays - h.Plays
		case h.Plays == s.Plays && h.Print != s.Print:
			plays++
		}
	}
	return plays
}

// pieces cuts an hour into spans of so many plays at most, some of several
// sources, in the order of sources and offsets.
func (f Facts) pieces(most uint64) [][]Span {
	var all [][]Span
	var piece []Span
	var plays uint64
	for _, s := range f.Sources {
		step := s.Last + 1 - s.First
		if s.Plays > most { // by offsets, of which each has one play or none
			step = most
		}
		for from := s.First; from <= s.Last; from += step {
			span := Span{s.Source, from, min(from+step, s.Last+1)}
			n := min(s.Plays, span.To-span.From)
			if plays+n > most && len(piece) > 0 {
				all, piece, plays = append(all, piece), nil, 0
			}
			piece, plays = append(piece, span), plays+n
		}
	}
	if len(piece) > 0 {
		all = append(all, piece)
	}
	return all
}
