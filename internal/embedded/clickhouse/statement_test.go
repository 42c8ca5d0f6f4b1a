package clickhouse

import "testing"

func TestParseStatement(t *testing.T) {
	tests := []struct {
		name, text string
		want       statement
		data       string
	}{
		{"select", "SELECT 1", statement{kind: "SELECT"}, ""},
		{"comments first", "-- x\n/* y */ # z\n select 1", statement{kind: "SELECT"}, ""},
		{"parenthesised", "(SELECT 1) UNION ALL (SELECT 2)", statement{kind: "("}, ""},
		{"format", "SELECT 1 FORMAT JSON", statement{kind: "SELECT", format: "JSON"}, ""},
		{"format, lower case, semicolon", "select 1 format json;\n", statement{kind: "SELECT", format: "json"}, ""},
		{"format and settings", "SELECT 1 FORMAT CSV SETTINGS max_threads = 1", statement{kind: "SELECT", format: "CSV"}, ""},
		{"settings and format", "SELECT 1 SETTINGS max_threads = 1 FORMAT CSV", statement{kind: "SELECT", format: "CSV"}, ""},
		{"format as a function", "SELECT format('{}', 'FORMAT CSV')", statement{kind: "SELECT"}, ""},
		{"format as an alias", "SELECT 1 AS format FROM t", statement{kind: "SELECT"}, ""},
		{"format in a subquery", "SELECT * FROM (SELECT 1 FORMAT CSV)", statement{kind: "SELECT"}, ""},
		{"format in a string", "SELECT 'it''s \\' FORMAT CSV'", statement{kind: "SELECT"}, ""},
		{"format in a heredoc", "SELECT $x$ ' FORMAT CSV $x$", statement{kind: "SELECT"}, ""},
		{"outfile", "SELECT 1 INTO OUTFILE 'x'", statement{kind: "SELECT", outfile: true}, ""},
		{"infile", "INSERT INTO t FROM INFILE 'x' FORMAT CSV", statement{kind: "INSERT", infile: true, hasData: true, format: "CSV"}, ""},
		{"empty", " -- nothing", statement{}, ""},
		{"values", "INSERT INTO t (a, `VALUES`) VALUES (1, 'x')", statement{kind: "INSERT", hasData: true, format: "Values"}, " (1, 'x')"},
		{"values of values", "INSERT INTO values VALUES (1)", statement{kind: "INSERT", hasData: true, format: "Values"}, " (1)"},
		{"format of format", "INSERT INTO db.format FORMAT TSV\n1", statement{kind: "INSERT", hasData: true, format: "TSV"}, "1"},
		{"data on the line", "INSERT INTO t FORMAT JSONEachRow {\"a\":1}", statement{kind: "INSERT", hasData: true, format: "JSONEachRow"}, "{\"a\":1}"},
		{"data on the next line", "INSERT INTO t FORMAT TSV \r\n\t1", statement{kind: "INSERT", hasData: true, format: "TSV"}, "\t1"},
		{"insert select", "INSERT INTO t SELECT 1", statement{kind: "INSERT", selects: true}, ""},
		{"insert from input", "INSERT INTO t SELECT a FROM input('a Int8') FORMAT TSV\n1", statement{kind: "INSERT", selects: true, input: true, inputAt: 28, hasData: true, format: "TSV"}, "1"},
		{"insert with settings", "INSERT INTO t SETTINGS async_insert = 1 FORMAT TSV\n1", statement{kind: "INSERT", hasData: true, format: "TSV"}, "1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := parseStatement(tt.text, false)
			if !ok {
				t.Fatal("a whole text must be parsed")
			}
			if got.hasData {
				if data := tt.text[got.dataStart:]; data != tt.data {
					t.Errorf("data is %q, want %q", data, tt.data)
				}
			} else if got.text != tt.text {
				t.Errorf("text is %q", got.text)
			}
			got.text, got.dataStart = "", 0
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestParseStatementInParts cuts statements everywhere: a part is either
// refused or read as the whole is.
func TestParseStatementInParts(t *testing.T) {
	for _, text := range []string{
		"INSERT INTO t (a, b) VALUES (1, 'FORMAT CSV')",
		"INSERT INTO t FORMAT JSONEachRow\n{\"a\":1}",
		"INSERT INTO t SETTINGS a = 'x' FORMAT TSV \n1\n2\n",
	} {
		want, _ := parseStatement(text, false)
		for end := range len(text) {
			if got, ok := parseStatement(text[:end], true); ok && got != want {
				t.Errorf("%q is read as %+v, the whole as %+v", text[:end], got, want)
			}
		}
		if got, ok := parseStatement(text, true); !ok || got != want {
			t.Errorf("%q with more to come is read as %+v (%v), the whole as %+v", text, got, ok, want)
		}
	}
}

func FuzzParseStatement(f *testing.F) {
	f.Add("SELECT 1 FORMAT JSON", false)
	f.Add("INSERT INTO t FORMAT $a$ x", true)
	f.Add("INSERT INTO t VALUES ('\\", true)
	f.Fuzz(func(t *testing.T, text string, more bool) {
		st, _ := parseStatement(text, more)
		if st.dataStart < 0 || st.dataStart > len(text) {
			t.Errorf("data starts at %d of %d", st.dataStart, len(text))
		}
	})
}
