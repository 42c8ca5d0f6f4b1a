package topk_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
)

// testNow is the server's clock in these tests. It is deliberately not a whole
// second, so that limits are tested to the millisecond.
var testNow = time.Date(2025, 11, 24, 16, 0, 0, 123_000_000, time.UTC)

// absent as the value of a field leaves the field out.
const absent = "\x00absent"

// playJSON gives a valid event with some fields replaced by raw JSON.
func playJSON(replace map[string]string) []byte {
	fields := []struct{ name, raw string }{
		{"eventId", `"0f8c6f0e-6f2b-4b0e-9d5e-0c8f5a3c9a11"`},
		{"userId", `"u123"`},
		{"songId", `"s456"`},
		{"artistId", `"a789"`},
		{"timestamp", fmt.Sprint(testNow.UnixMilli())},
		{"region", `"IN/Mumbai"`},
		{"deviceType", `"mobile"`},
		{"context", `"playlist:37i9dQ"`},
		{"duration", `213`},
	}
	var parts []string
	for _, f := range fields {
		if raw, ok := replace[f.name]; ok {
			f.raw = raw
		}
		if f.raw != absent {
			parts = append(parts, fmt.Sprintf("%q:%s", f.name, f.raw))
		}
	}
	return []byte("{" + strings.Join(parts, ",") + "}")
}

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func parse(data []byte) (topk.Play, error) {
	return topk.ParsePlay(data, topk.DefaultRules(), testNow)
}

func TestParsePlayReadsEveryField(t *testing.T) {
	duration := 213
	want := topk.Play{
		EventID: "0f8c6f0e-6f2b-4b0e-9d5e-0c8f5a3c9a11", UserID: "u123", SongID: "s456", ArtistID: "a789",
		Timestamp: testNow, Region: topk.Region{Country: "IN", City: "Mumbai"}, Device: "mobile",
		Context: topk.Context{Kind: "playlist", ID: "37i9dQ"}, Duration: &duration,
	}
	got, err := parse(playJSON(nil))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestParsePlayFieldRules(t *testing.T) {
	const (
		isRequired = "is required"
		isString   = "must be a string"
		badEventID = "must be 1 to 64 characters of A-Z a-z 0-9 _ . : -"
		noControl  = "must not contain control characters"
		isEmpty    = "must not be empty"
		badCountry = "must start with an upper-case ISO 3166-1 alpha-2 country such as IN"
		badDevice  = "must be a lower-case word of at most 32 characters, such as mobile"
		badContext = "must be kind:ID, such as playlist:37i9dQ"
		badSeconds = "must be whole seconds from 0 to 86400"
	)
	long := func(n int) string { return quoted(strings.Repeat("x", n)) }
	tests := []struct {
		field, raw string
		want       string // the field's error; "" when it is accepted
	}{
		{"eventId", absent, isRequired},
		{"eventId", `null`, isRequired},
		{"eventId", `7`, isString},
		{"eventId", `["e"]`, isString},
		{"eventId", `{"id":"e"}`, isString},
		{"eventId", `true`, isString},
		{"eventId", `""`, badEventID},
		{"eventId", `"x"`, ""},
		{"eventId", long(64), ""},
		{"eventId", long(65), badEventID},
		{"eventId", `"AZaz09_.:-"`, ""},
		{"eventId", `"\u0041"`, ""},
		{"eventId", `"a b"`, badEventID},
		{"eventId", `"a/b"`, badEventID},
		{"eventId", `"é"`, badEventID},
		{"eventId", `"a\n"`, badEventID},
		{"eventId", `"a\u0000"`, badEventID},
		{"eventId", `"\ud800"`, badEventID},

		{"userId", absent, isRequired},
		{"userId", `null`, isRequired},
		{"userId", `1`, isString},
		{"userId", `[]`, isString},
		{"userId", `""`, "must be 1 to 128 bytes, is 0"},
		{"userId", `"u"`, ""},
		{"userId", `"any \" text, also 日本\n"`, ""},
		{"userId", long(128), ""},
		{"userId", long(129), "must be 1 to 128 bytes, is 129"},
		{"userId", quoted(strings.Repeat("é", 65)), "must be 1 to 128 bytes, is 130"},

		{"songId", absent, isRequired},
		{"songId", `null`, isRequired},
		{"songId", `456`, isString},
		{"songId", `""`, isEmpty},
		{"songId", `"s"`, ""},
		{"songId", `"a song, 100%/日本:x"`, ""},
		{"songId", long(64), ""},
		{"songId", long(65), "must be at most 64 bytes, is 65"},
		{"songId", quoted(strings.Repeat("é", 32)), ""},
		{"songId", quoted(strings.Repeat("é", 33)), "must be at most 64 bytes, is 66"},
		{"songId", `"a\tb"`, noControl},
		{"songId", `"a\u0000b"`, noControl},
		{"songId", `"a\u007fb"`, noControl},
		{"songId", `"a\u0085b"`, noControl},

		{"artistId", absent, isRequired},
		{"artistId", `null`, isRequired},
		{"artistId", `false`, isString},
		{"artistId", `""`, isEmpty},
		{"artistId", long(64), ""},
		{"artistId", long(65), "must be at most 64 bytes, is 65"},
		{"artistId", `"a\r"`, noControl},

		{"region", absent, ""},
		{"region", `null`, ""},
		{"region", `1`, isString},
		{"region", `["IN"]`, isString},
		{"region", `""`, badCountry},
		{"region", `"IN"`, ""},
		{"region", `"US"`, ""},
		{"region", `"in"`, badCountry},
		{"region", `"IND"`, badCountry},
		{"region", `"I"`, badCountry},
		{"region", `" IN"`, badCountry},
		{"region", `"XX"`, badCountry},
		{"region", `"UK"`, badCountry},
		{"region", `"EU"`, badCountry},
		{"region", `"XK"`, badCountry},
		{"region", `"SU"`, badCountry},
		{"region", `"/Mumbai"`, badCountry},
		{"region", `"IN-MH"`, badCountry},
		{"region", `"IN/"`, "city must not be empty"},
		{"region", `"IN/x"`, ""},
		{"region", `"IN/Navi Mumbai/West"`, ""},
		{"region", `"US/Washington, D.C."`, ""},
		{"region", `"IN/a\u0007"`, "city " + noControl},
		{"region", quoted("IN/" + strings.Repeat("x", 64)), ""},
		{"region", quoted("IN/" + strings.Repeat("x", 65)), "city must be at most 64 bytes, is 65"},

		{"deviceType", absent, ""},
		{"deviceType", `null`, ""},
		{"deviceType", `1`, isString},
		{"deviceType", `""`, badDevice},
		{"deviceType", `"tv"`, ""},
		{"deviceType", `"smart-tv_2"`, ""},
		{"deviceType", `"Mobile"`, badDevice},
		{"deviceType", `"2tv"`, badDevice},
		{"deviceType", `"-tv"`, badDevice},
		{"deviceType", `"a tv"`, badDevice},
		{"deviceType", `"télé"`, badDevice},
		{"deviceType", long(32), ""},
		{"deviceType", long(33), badDevice},

		{"context", absent, ""},
		{"context", `null`, ""},
		{"context", `{"kind":"album"}`, isString},
		{"context", `""`, badContext},
		{"context", `"playlist"`, badContext},
		{"context", `":x"`, badContext},
		{"context", `"Playlist:x"`, badContext},
		{"context", `"my list:x"`, badContext},
		{"context", `"playlist:"`, "ID must not be empty"},
		{"context", `"playlist:x"`, ""},
		{"context", `"album/x"`, ""},
		{"context", `"radio:x"`, ""},
		{"context", quoted(strings.Repeat("k", 32) + ":x"), ""},
		{"context", quoted(strings.Repeat("k", 33) + ":x"), badContext},
		{"context", `"playlist:a\nb"`, "ID " + noControl},
		{"context", quoted("album:" + strings.Repeat("x", 128)), ""},
		{"context", quoted("album:" + strings.Repeat("x", 129)), "ID must be at most 128 bytes, is 129"},

		{"duration", absent, ""},
		{"duration", `null`, ""},
		{"duration", `0`, ""},
		{"duration", `-0`, ""},
		{"duration", `86400`, ""},
		{"duration", `86401`, badSeconds},
		{"duration", `-1`, badSeconds},
		{"duration", `213.5`, badSeconds},
		{"duration", `2e2`, badSeconds},
		{"duration", `"213"`, badSeconds},
		{"duration", `true`, badSeconds},
		{"duration", `[213]`, badSeconds},
		{"duration", `99999999999999999999`, badSeconds},
	}
	for _, tt := range tests {
		t.Run(tt.field+"="+tt.raw, func(t *testing.T) {
			wantOnlyError(t, playJSON(map[string]string{tt.field: tt.raw}), tt.field, tt.want)
		})
	}
}

// wantOnlyError parses data and wants exactly one error, of field; none when
// message is empty.
func wantOnlyError(t *testing.T, data []byte, field, message string) {
	t.Helper()
	_, err := parse(data)
	var want error
	if message != "" {
		want = topk.FieldErrors{{Field: field, Message: message}}
	}
	if !reflect.DeepEqual(err, want) {
		t.Errorf("ParsePlay(%s)\n got %v\nwant %v", data, err, want)
	}
}

func TestParsePlayTimestamp(t *testing.T) {
	const (
		badForm  = "must be integer epoch milliseconds or an RFC 3339 time"
		tooAhead = "must be at most 5m0s ahead of the server's clock"
		tooOld   = "must be at most 168h0m0s old; send older plays by backfill"
	)
	var (
		ahead = testNow.Add(5 * time.Minute)
		old   = testNow.Add(-7 * 24 * time.Hour)
		milli = func(t time.Time) string { return fmt.Sprint(t.UnixMilli()) }
		text  = func(t time.Time, layout string) string { return quoted(t.Format(layout)) }
		ms    = time.Millisecond
	)
	tests := []struct {
		name, raw string
		want      time.Time // when it is accepted
		err       string
	}{
		{"absent", absent, time.Time{}, "is required"},
		{"null", `null`, time.Time{}, "is required"},
		{"milliseconds", milli(testNow), testNow, ""},
		{"seconds", fmt.Sprint(testNow.Unix()), testNow.Truncate(time.Second), ""},
		{"RFC 3339", `"2025-11-24T16:00:00Z"`, testNow.Truncate(time.Second), ""},
		{"RFC 3339 with milliseconds", `"2025-11-24T16:00:00.123Z"`, testNow, ""},
		{"RFC 3339 with nanoseconds is cut", `"2025-11-24T16:00:00.123999999Z"`, testNow, ""},
		{"RFC 3339 with an offset", `"2025-11-24T21:30:00.123+05:30"`, testNow, ""},
		{"RFC 3339 with escapes", `"2025-11-24T16:00:00\u002e123Z"`, testNow, ""},

		{"exactly 5 minutes ahead", milli(ahead), ahead, ""},
		{"1 ms more ahead", milli(ahead.Add(ms)), time.Time{}, tooAhead},
		{"exactly 5 minutes ahead, text", text(ahead, time.RFC3339Nano), ahead, ""},
		{"1 ms more ahead, text", text(ahead.Add(ms), time.RFC3339Nano), time.Time{}, tooAhead},
		{"5 minutes ahead, seconds", fmt.Sprint(ahead.Unix()), ahead.Truncate(time.Second), ""},
		{"1 s more ahead, seconds", fmt.Sprint(ahead.Unix() + 1), time.Time{}, tooAhead},
		{"exactly 7 days old", milli(old), old, ""},
		{"1 ms older", milli(old.Add(-ms)), time.Time{}, tooOld},
		{"exactly 7 days old, text", text(old, time.RFC3339Nano), old, ""},
		{"1 ms older, text", text(old.Add(-ms), time.RFC3339Nano), time.Time{}, tooOld},

		{"zero", `0`, time.Time{}, tooOld},
		{"negative seconds", `-1`, time.Time{}, tooOld},
		{"negative milliseconds", `-1764000000000`, time.Time{}, tooOld},
		{"the greatest seconds", `99999999999`, time.Time{}, tooAhead},
		{"the least milliseconds", `100000000000`, time.Time{}, tooOld},
		{"microseconds", `1764000000000000`, time.Time{}, tooAhead},
		{"the greatest integer", `9223372036854775807`, time.Time{}, tooAhead},
		{"the least integer", `-9223372036854775808`, time.Time{}, tooOld},
		{"the year 9999", `"9999-12-31T23:59:59Z"`, time.Time{}, tooAhead},
		{"the year 0", `"0000-01-01T00:00:00Z"`, time.Time{}, tooOld},

		{"too great an integer", `9223372036854775808`, time.Time{}, badForm},
		{"a fraction", `1764000000000.5`, time.Time{}, badForm},
		{"a whole fraction", `1764000000000.0`, time.Time{}, badForm},
		{"an exponent", `1764e9`, time.Time{}, badForm},
		{"digits as text", `"1764000000000"`, time.Time{}, badForm},
		{"empty", `""`, time.Time{}, badForm},
		{"a date", `"2025-11-24"`, time.Time{}, badForm},
		{"no zone", `"2025-11-24T16:00:00"`, time.Time{}, badForm},
		{"a space for T", `"2025-11-24 16:00:00Z"`, time.Time{}, badForm},
		{"an hour of one digit", `"2025-11-24T6:00:00Z"`, time.Time{}, badForm},
		{"a comma in the fraction", `"2025-11-24T16:00:00,123Z"`, time.Time{}, badForm},
		{"an offset out of range", `"2025-11-24T16:00:00+99:00"`, time.Time{}, badForm},
		{"no such day", `"2025-11-31T16:00:00Z"`, time.Time{}, badForm},
		{"true", `true`, time.Time{}, badForm},
		{"an array", `[1764000000000]`, time.Time{}, badForm},
		{"an object", `{"ms":1764000000000}`, time.Time{}, badForm},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			data := playJSON(map[string]string{"timestamp": tt.raw})
			wantOnlyError(t, data, "timestamp", tt.err)
			if tt.err != "" {
				return
			}
			p, _ := parse(data)
			if !p.Timestamp.Equal(tt.want) || p.Timestamp.Location() != time.UTC {
				t.Errorf("got %v, want %v", p.Timestamp, tt.want)
			}
		})
	}
}

func TestParsePlayRulesAreConfigurable(t *testing.T) {
	at := testNow.Add(-30 * 24 * time.Hour)
	data := playJSON(map[string]string{"timestamp": fmt.Sprint(at.UnixMilli())})
	if _, err := topk.ParsePlay(data, topk.Rules{MaxAge: 31 * 24 * time.Hour}, testNow); err != nil {
		t.Errorf("30 days old under a limit of 31: %v", err)
	}
	data = playJSON(map[string]string{"timestamp": fmt.Sprint(testNow.Add(time.Millisecond).UnixMilli())})
	if _, err := topk.ParsePlay(data, topk.Rules{}, testNow); err == nil {
		t.Error("1 ms ahead under a limit of 0 was accepted")
	}
}

func TestParsePlayRegionAndContextForms(t *testing.T) {
	tests := []struct {
		region, context string
		wantRegion      topk.Region
		wantContext     topk.Context
		canonical       string // of the context
	}{
		{"IN", "playlist:x", topk.Region{Country: "IN"}, topk.Context{Kind: "playlist", ID: "x"}, "playlist:x"},
		{"IN/Mumbai", "playlist/x", topk.Region{Country: "IN", City: "Mumbai"}, topk.Context{Kind: "playlist", ID: "x"}, "playlist:x"},
		{"IN/a/b", "album/x:y", topk.Region{Country: "IN", City: "a/b"}, topk.Context{Kind: "album", ID: "x:y"}, "album:x:y"},
		{"IN/a,b", "album:x/y", topk.Region{Country: "IN", City: "a,b"}, topk.Context{Kind: "album", ID: "x/y"}, "album:x/y"},
		{"IN/%2C", "search::", topk.Region{Country: "IN", City: "%2C"}, topk.Context{Kind: "search", ID: ":"}, "search::"},
	}
	for _, tt := range tests {
		p, err := parse(playJSON(map[string]string{"region": quoted(tt.region), "context": quoted(tt.context)}))
		if err != nil || p.Region != tt.wantRegion || p.Context != tt.wantContext {
			t.Errorf("%s, %s: got %+v, %+v, %v", tt.region, tt.context, p.Region, p.Context, err)
		}
		if p.Region.String() != tt.region || p.Context.String() != tt.canonical {
			t.Errorf("%s, %s: written as %s, %s", tt.region, tt.context, p.Region, p.Context)
		}
	}
}

func TestParsePlayNamesEveryBadFieldAtOnce(t *testing.T) {
	p, err := parse([]byte(`{"eventId":"e 1","userId":"","songId":7,"timestamp":"now","region":"XX",` +
		`"deviceType":"TV","context":"x","duration":-1}`))
	var errs topk.FieldErrors
	if !errors.As(err, &errs) || !errors.Is(err, topk.ErrInvalid) {
		t.Fatalf("got %v, want FieldErrors that are ErrInvalid", err)
	}
	var fields []string
	for _, e := range errs {
		fields = append(fields, e.Field)
	}
	want := []string{"eventId", "userId", "songId", "artistId", "timestamp", "region", "deviceType", "context", "duration"}
	if !reflect.DeepEqual(fields, want) {
		t.Errorf("got errors of %v, want %v", fields, want)
	}
	if !reflect.DeepEqual(p, topk.Play{}) {
		t.Errorf("a play came back beside the errors: %+v", p)
	}
}

func TestParsePlayGivesTheEventIDBesideErrors(t *testing.T) {
	p, err := parse([]byte(`{"eventId":"e-1","userId":"u"}`))
	if err == nil || !reflect.DeepEqual(p, topk.Play{EventID: "e-1"}) {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestParsePlayWholeInput(t *testing.T) {
	valid := string(playJSON(nil))
	const notAnObject = "must be one JSON object"
	tests := []struct {
		name, data string
		want       string
	}{
		{"white space around", " \t\r\n" + valid + " \n", ""},
		{"white space inside", strings.NewReplacer(`":`, "\" \n: ", `,`, " ,\t").Replace(valid), ""},
		{"unknown fields", strings.Replace(valid, "{", `{"x":1,"y":{"eventId":[{}, "}"]},"z":[[],"]\\\""],`, 1), ""},
		{"an escaped name", strings.Replace(valid, `"songId"`, `"song\u0049d"`, 1), ""},
		{"the last of repeated names counts", strings.Replace(valid, "{", `{"songId":7,`, 1), ""},
		{"empty", "", notAnObject},
		{"blank", " \n", notAnObject},
		{"null", "null", notAnObject},
		{"a number", "1", notAnObject},
		{"a string", `"{}"`, notAnObject},
		{"an array", "[" + valid + "]", notAnObject},
		{"two objects", valid + valid, notAnObject},
		{"trailing text", valid + "x", notAnObject},
		{"truncated", valid[:len(valid)-1], notAnObject},
		{"a trailing comma", strings.Replace(valid, "}", ",}", 1), notAnObject},
		{"single quotes", strings.ReplaceAll(valid, `"`, `'`), notAnObject},
		{"a raw control character", strings.Replace(valid, "u123", "u\n123", 1), notAnObject},
		{"a byte order mark", "\xef\xbb\xbf" + valid, notAnObject},
		{"deep nesting", strings.Replace(valid, "{", `{"x":`+strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000)+",", 1), notAnObject},
		{"bytes that are not UTF-8", strings.Replace(valid, "u123", "u\xff", 1), "must be valid UTF-8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { wantOnlyError(t, []byte(tt.data), "", tt.want) })
	}
}

func TestParsePlayFieldNamesAreExact(t *testing.T) {
	for _, name := range []string{"EventId", "eventid", "event_id", "eventId "} {
		data := strings.Replace(string(playJSON(nil)), `"eventId"`, quoted(name), 1)
		wantOnlyError(t, []byte(data), "eventId", "is required")
	}
}

func TestMarshalPlayIsTheNormalForm(t *testing.T) {
	full, err := parse(playJSON(map[string]string{"timestamp": `"2025-11-24T21:30:00.123+05:30"`, "context": `"album/x"`}))
	if err != nil {
		t.Fatal(err)
	}
	least, err := parse(playJSON(map[string]string{"region": absent, "deviceType": absent, "context": "null", "duration": absent}))
	if err != nil {
		t.Fatal(err)
	}
	zero := 0
	least.Duration = &zero
	tests := []struct {
		play topk.Play
		want string
	}{
		{full, `{"eventId":"0f8c6f0e-6f2b-4b0e-9d5e-0c8f5a3c9a11","userId":"u123","songId":"s456","artistId":"a789",` +
			`"timestamp":1764000000123,"region":"IN/Mumbai","deviceType":"mobile","context":"album:x","duration":213}`},
		{least, `{"eventId":"0f8c6f0e-6f2b-4b0e-9d5e-0c8f5a3c9a11","userId":"u123","songId":"s456","artistId":"a789",` +
			`"timestamp":1764000000123,"duration":0}`},
	}
	for _, tt := range tests {
		got, err := json.Marshal(tt.play)
		if err != nil || string(got) != tt.want {
			t.Errorf("got %s, %v\nwant %s", got, err, tt.want)
		}
	}
}

func TestHashUser(t *testing.T) {
	// RFC 4231, test case 2.
	const want = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
	if got := topk.HashUser([]byte("Jefe"), "what do ya want for nothing?"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if topk.HashUser([]byte("a"), "u") == topk.HashUser([]byte("b"), "u") {
		t.Error("the pepper makes no difference")
	}
}

func TestCountriesAreTheStandard(t *testing.T) {
	got := topk.Countries()
	if len(got) != 249 {
		t.Errorf("got %d countries, ISO 3166-1 assigns 249 codes", len(got))
	}
	for i, code := range got {
		if len(code) != 2 || (i > 0 && got[i-1] >= code) {
			t.Errorf("code %q at %d is not one of a sorted list of pairs", code, i)
		}
		if _, err := topk.ParseRegion(code); err != nil {
			t.Errorf("%s: %v", code, err)
		}
	}
	got[0] = "??"
	if topk.Countries()[0] == "??" {
		t.Error("the list can be changed from outside")
	}
}

// text draws 1 to limit bytes without control characters, often with what the
// grammars give a meaning to.
func text(limit int) *rapid.Generator[string] {
	char := rapid.OneOf(
		rapid.SampledFrom([]rune(`,%:/"\<&'é日 2C25`)),
		rapid.RuneFrom(nil, printable...),
	)
	return rapid.StringOfN(char, 1, limit/4, limit).Filter(func(s string) bool { return len(s) <= limit })
}

func word() *rapid.Generator[string] { return rapid.StringMatching(`[a-z][a-z0-9_-]{0,31}`) }

// validPlay draws any play that ParsePlay may give at testNow.
func validPlay(t *rapid.T) topk.Play {
	rules := topk.DefaultRules()
	p := topk.Play{
		EventID:  rapid.StringMatching(`[A-Za-z0-9_.:-]{1,64}`).Draw(t, "eventId"),
		UserID:   rapid.StringN(1, 32, topk.MaxUserID).Draw(t, "userId"),
		SongID:   text(topk.MaxSongID).Draw(t, "songId"),
		ArtistID: text(topk.MaxArtistID).Draw(t, "artistId"),
	}
	offset := rapid.Int64Range(-rules.MaxAge.Milliseconds(), rules.MaxAhead.Milliseconds()).Draw(t, "offset")
	p.Timestamp = testNow.Add(time.Duration(offset) * time.Millisecond)
	if rapid.Bool().Draw(t, "has region") {
		p.Region.Country = rapid.SampledFrom(topk.Countries()).Draw(t, "country")
		if rapid.Bool().Draw(t, "has city") {
			p.Region.City = text(topk.MaxCity).Draw(t, "city")
		}
	}
	if rapid.Bool().Draw(t, "has device") {
		p.Device = word().Draw(t, "device")
	}
	if rapid.Bool().Draw(t, "has context") {
		p.Context = topk.Context{Kind: word().Draw(t, "kind"), ID: text(topk.MaxValue).Draw(t, "ID")}
	}
	if rapid.Bool().Draw(t, "has duration") {
		seconds := rapid.IntRange(0, topk.MaxDuration).Draw(t, "duration")
		p.Duration = &seconds
	}
	return p
}

func TestParsePlayReadsBackWhatMarshalWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := validPlay(t)
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parse(data)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s\n got %+v, %v\nwant %+v", data, got, err, want)
		}
	})
}

func FuzzParsePlay(f *testing.F) {
	f.Add(playJSON(nil))
	f.Add(playJSON(map[string]string{"timestamp": `"2025-11-24T21:30:00.123+05:30"`, "context": `"album/x:y"`}))
	f.Add(playJSON(map[string]string{"region": "null", "duration": absent, "deviceType": `"TV"`}))
	f.Add([]byte(`{"event\u0049d":"e","x":[{"y":"}\\\""}],"songId":1e9, "userId" : "\ud800" , "timestamp":-0}`))
	f.Add([]byte(`{"a":{}`))
	f.Add([]byte("\xff{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parse(data)
		checkFieldsAgainstMap(t, data, p, err)
		if err != nil {
			var errs topk.FieldErrors
			if !errors.As(err, &errs) || len(errs) == 0 {
				t.Fatalf("the error is %#v, want FieldErrors", err)
			}
			if !reflect.DeepEqual(p, topk.Play{EventID: p.EventID}) {
				t.Fatalf("a play came back beside %v: %+v", err, p)
			}
			return
		}
		normal, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parse(normal)
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("%s\nis %+v\nbut its normal form %s\nis %+v, %v", data, p, normal, again, err)
		}
	})
}

// checkFieldsAgainstMap compares the parser's own walk of the object with
// encoding/json's.
func checkFieldsAgainstMap(t *testing.T, data []byte, p topk.Play, err error) {
	var fields map[string]json.RawMessage
	isObject := json.Unmarshal(data, &fields) == nil && fields != nil
	var errs topk.FieldErrors
	errors.As(err, &errs)
	ofWhole := len(errs) == 1 && errs[0].Field == ""
	if isObject && ofWhole && errs[0].Message == "must be one JSON object" {
		t.Fatalf("%q is an object, but %v", data, err)
	}
	if !isObject && !ofWhole {
		t.Fatalf("%q is not an object, but %v", data, err)
	}
	if err != nil {
		return
	}
	var song, user string
	if json.Unmarshal(fields["songId"], &song) != nil || json.Unmarshal(fields["userId"], &user) != nil || song != p.SongID || user != p.UserID {
		t.Fatalf("%q: song %q, user %q; the parser has %+v", data, song, user, p)
	}
}

func FuzzParseRegion(f *testing.F) {
	for _, s := range []string{"IN", "IN/Mumbai", "IN/", "in", "XX", "IN/a/b", "IN/\x00", "US/Washington, D.C."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := topk.ParseRegion(s)
		switch {
		case err == nil && r.String() != s:
			t.Fatalf("%q is written %q", s, r)
		case err == nil && (len(r.Country) != 2 || len(r.City) > topk.MaxCity):
			t.Fatalf("%q is %+v", s, r)
		case err != nil && r != topk.Region{}:
			t.Fatalf("%+v came back beside %v", r, err)
		}
	})
}

func FuzzParseContext(f *testing.F) {
	for _, s := range []string{"playlist:37i9dQ", "album/x", "a/b:c", "a:b/c", "playlist:", ":x", "Playlist:x", "x\x00:y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := topk.ParseContext(s)
		if err != nil {
			if c != (topk.Context{}) {
				t.Fatalf("%+v came back beside %v", c, err)
			}
			return
		}
		if len(c.String()) != len(s) || !strings.HasPrefix(s, c.Kind) || !strings.HasSuffix(s, c.ID) {
			t.Fatalf("%q is %+v", s, c)
		}
		if again, err := topk.ParseContext(c.String()); err != nil || again != c {
			t.Fatalf("%q is %+v, but %q is %+v, %v", s, c, c, again, err)
		}
	})
}
