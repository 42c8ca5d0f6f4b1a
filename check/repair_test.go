package check_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk/check"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
)

var rollups = []struct{ name, key, columns string }{
	{"rollup_hour", "day", "dim, val, songId, ts, plays, wm, wmAt, day"},
	{"rollup_day", "week", "dim, val, songId, ts, plays, wm, wmAt, week"},
}

// corruptions spoil a rollup in every way there is. The statements know the
// table as {table}, its columns as {columns}, and as {part} what to spoil of it.
var corruptions = map[string][]string{
	"rows missing":                  {deleted("dim = 'region' AND val = 'IN' AND songId = 's1'")},
	"dimension missing":             {deleted("dim = 'global'")},
	"all missing but the watermark": {deleted("dim != '_wm'")},
	"rows doubled":                  {inserted("* REPLACE (dim AS dim)", "dim != '_wm'")},
	"moved to another song":         {inserted("* REPLACE ('s2' AS songId)", "dim = 'device' AND songId = 's1'"), deleted("dim = 'device' AND songId = 's1'")},
	"moved to another value":        {inserted("* REPLACE ('US' AS val)", "dim = 'region' AND val = 'IN'"), deleted("dim = 'region' AND val = 'IN'")},
	"moved in time":                 {inserted("* REPLACE (ts - INTERVAL 1 DAY AS ts)", "dim = 'global' AND songId = 's10'"), deleted("dim = 'global' AND songId = 's10'")},
	"a stranger":                    {inserted("* REPLACE ('global' AS dim, '' AS val, 'nobody' AS songId, 7 AS plays, 0 AS wm)", "dim = '_wm'")},
	"watermark too low": {
		"CREATE TABLE lower ENGINE = Memory AS SELECT * REPLACE (toUInt64(wm / 2) AS wm) FROM {table} WHERE dim = '_wm' AND {part}",
		deleted("dim = '_wm'"),
		"INSERT INTO {table} SELECT {columns} FROM lower",
		"DROP TABLE lower SYNC"},
	"watermark too high":             {inserted("* REPLACE (wm + 1000000 AS wm)", "dim = '_wm'")},
	"time of the watermark too late": {inserted("* REPLACE (wmAt + INTERVAL 1 HOUR AS wmAt)", "dim = '_wm'")},
	"no watermark":                   {deleted("dim = '_wm'")},
	"nothing at all":                 {deleted("true")},
}

func deleted(where string) string {
	return "ALTER TABLE {table} DELETE WHERE {part} AND " + where + " SETTINGS mutations_sync = 2"
}

func inserted(columns, where string) string {
	return "INSERT INTO {table} SELECT {columns} FROM (SELECT " + columns + " FROM (SELECT * FROM {table} WHERE {part} AND " + where + "))"
}

// corrupt spoils while the fill stands still: what is being added at that moment
// would make some of it vain.
func (s *system) corrupt(table, columns, part string, statements []string) {
	s.Helper()
	s.stopFill(table)
	defer s.exec("SYSTEM START VIEW " + table + "_fill")
	for _, sql := range statements {
		s.exec(strings.NewReplacer("{table}", table, "{columns}", columns, "{part}", part).Replace(sql))
	}
}

func (s *system) stopFill(table string) {
	s.Helper()
	s.exec("SYSTEM STOP VIEW " + table + "_fill")
	embeddedtest.WaitFor(s.Context(), s, "the fill to stop", func() bool {
		return s.value("SELECT status FROM system.view_refreshes WHERE database = currentDatabase() AND view = '"+table+"_fill'") == "Disabled"
	})
}

// repaired checks and repairs until nothing differs, and gives the repairs. The
// fill may have run over what is spoilt in between, and spread it.
func (s *system) repaired(what string) (repairs []check.Repair) {
	s.Helper()
	deadline := time.Now().Add(3 * time.Minute) // of a busy machine
	for {
		report := s.check(check.Options{Repair: true})
		repairs = append(repairs, report.Repairs...)
		if report.Exact() {
			break
		}
		if time.Now().After(deadline) {
			s.Fatalf("%s: not repaired: %+v", what, report.Differences)
		}
	}
	for _, r := range repairs {
		s.Logf("%s: %s %s repaired in %s, paused %s", what, r.Rollup, r.Partition, r.Took, r.Paused)
	}
	return repairs
}

// Whatever is wrong with a rollup, a repair makes it right while plays stream
// in and its fill is kept busy; then nothing differs and charts are exact.
func TestRepairUnderConstantAppends(t *testing.T) {
	s := newSystem(t)
	s.send(1500)
	s.settle()
	stop := s.during()
	for i, name := range slices.Sorted(maps.Keys(corruptions)) {
		rollup := rollups[i%len(rollups)]
		s.corrupt(rollup.name, rollup.columns, "true", corruptions[name])
		// From nothing, the fill may have made it all anew.
		if repairs := s.repaired(name + " of " + rollup.name); len(repairs) == 0 && name != "nothing at all" {
			t.Errorf("%s of %s was not noticed", name, rollup.name)
		}
	}
	stop()
	s.settle()
	s.differs(s.check(check.Options{}), "none")
	s.exact()
	if left := s.value("SELECT count() FROM system.tables WHERE database = currentDatabase() AND (name LIKE 'repair%' OR name LIKE 'migrating')"); left != "0" {
		t.Errorf("%s tables are left", left)
	}
}

// Killed at any step, a repair leaves nothing wrong that was right, and the next
// one finishes it.
func TestRepairKilledAtEveryStep(t *testing.T) {
	s := newSystem(t)
	s.send(1500)
	s.settle()
	stop := s.during()
	killed := errors.New("killed")
	var steps []string
	s.checker.Between(func(step string) error { steps = append(steps, step); return nil })
	spoil := func() { s.corrupt("rollup_hour", rollups[0].columns, "true", corruptions["rows doubled"]) }
	spoil()
	if report := s.check(check.Options{Repair: true}); len(report.Repairs) != 1 {
		t.Fatalf("%+v", report)
	}
	t.Logf("steps: %v", steps)
	for n := range steps {
		spoil()
		at := 0
		s.checker.Between(func(step string) error {
			if at++; at > n { // and nothing is done any more, cleaning up included
				return killed
			}
			return nil
		})
		told := s.value("SELECT count() FROM rewrites")
		report, err := s.checker.Run(t.Context(), check.Options{Days: 2, Repair: true})
		if n < len(steps)-3 && !errors.Is(err, killed) { // the last steps clean up
			t.Errorf("killed before step %d, %s: %v, %v", n, steps[n], err, report.Repairs)
		}
		s.checker.Between(func(string) error { return nil })
		report = s.check(check.Options{Repair: true})
		if !report.Exact() {
			t.Errorf("after a kill before step %d, %s: %+v", n, steps[n], report.Differences)
		}
		if state := s.value("SELECT count() FROM system.view_refreshes WHERE database = currentDatabase() AND status = 'Disabled'"); state != "0" {
			t.Errorf("after a kill before step %d, %s, a fill stands still", n, steps[n])
		}
		if s.value("SELECT count() FROM rewrites") == told {
			t.Errorf("after a kill before step %d, %s, nobody who follows the log was told", n, steps[n])
		}
	}
	stop()
	s.settle()
	s.differs(s.check(check.Options{}), "none")
	s.exact()
}

// Partitions of several days: each holds what came in between the watermarks,
// and each is repaired by itself, or with those after it that it misled.
func TestRepairOfOlderPartitions(t *testing.T) {
	s := newSystem(t)
	// age moves what the rollup has counted so far into partitions a day older:
	// not so many that it would have counted plays that had not happened.
	s.ago = 6 * 24 * time.Hour
	age := func() {
		s.stopFill("rollup_hour")
		s.exec("CREATE TABLE older ENGINE = Memory AS SELECT * REPLACE (day - 1 AS day) FROM rollup_hour")
		s.exec("TRUNCATE TABLE rollup_hour")
		s.exec("INSERT INTO rollup_hour SELECT * FROM older")
		s.exec("DROP TABLE older SYNC")
		s.exec("SYSTEM START VIEW rollup_hour_fill")
	}
	for range 2 {
		s.send(500)
		s.settle()
		age()
	}
	s.send(500)
	s.settle()
	report := s.check(check.Options{})
	s.differs(report, "none")
	if n := len(report.Rollups[0].Partitions); n != 3 {
		t.Fatalf("%d partitions", n)
	}
	stop := s.during()
	const yesterday = "day = today() - 1"
	for _, name := range slices.Sorted(maps.Keys(corruptions)) {
		// What is wrong with a watermark may end in one partition for all days.
		if s.value("SELECT count() FROM rollup_hour WHERE "+yesterday) == "0" {
			age()
		}
		s.corrupt("rollup_hour", rollups[0].columns, yesterday, corruptions[name])
		if len(s.repaired(name+" of yesterday")) == 0 && name != "nothing at all" {
			t.Errorf("%s of yesterday was not noticed", name)
		}
	}
	stop()
	s.settle()
	s.differs(s.check(check.Options{}), "none")
	s.exact()
}
