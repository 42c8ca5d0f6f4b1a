package clickhouse

import "strings"

// statement is what the front has to know about a text before the engine
// parses it: where the data of an INSERT begins and which format is asked for.
type statement struct {
	// kind is the first keyword in upper case, "(" for a parenthesised SELECT.
	kind string
	// text is the statement; for an INSERT with data, without FORMAT and data.
	text string
	// format is the name after FORMAT, "Values" for VALUES, or empty.
	format string
	// hasData tells an INSERT followed by data from any other statement, and
	// dataStart is where in the parsed text it begins.
	hasData   bool
	dataStart int
	// selects tells an INSERT that takes its rows from a SELECT, input one that
	// feeds the data to it by the table function input().
	selects, input bool
	inputAt        int // where that stands in the text
	// outfile and infile tell statements that name a file of the client.
	outfile, infile bool
}

// parseStatement scans the text. With more set, text is the beginning of a
// longer one: a clause that touches its end is not trusted, and ok is false
// for an INSERT whose data has not been reached.
func parseStatement(text string, more bool) (st statement, ok bool) {
	l := lexer{text: text}
	st.text = text
	depth := 0
	var prev, prev2 token
	for {
		t := l.next()
		if t.kind == tokenEnd {
			break
		}
		if more && l.pos == len(text) {
			return st, false
		}
		word := ""
		if t.kind == tokenWord {
			word = strings.ToUpper(t.text(text))
		}
		if st.kind == "" {
			st.kind = word
			if word == "" {
				st.kind = t.text(text)
			}
		}
		switch t.kind {
		case tokenOpen:
			depth++
			if st.selects && prev.is(text, "input") {
				st.input, st.inputAt = true, prev.start
			}
		case tokenClose:
			depth--
		case tokenWord:
			if depth != 0 {
				break
			}
			switch {
			case word == "OUTFILE" && prev.is(text, "INTO"):
				st.outfile = true
			case word == "INFILE" && prev.is(text, "FROM"):
				st.infile = true
			case st.kind == "INSERT" && namesTable(text, prev):
				// whatever the word, it is the table's name
			case st.kind == "INSERT" && word == "VALUES":
				st.format, st.hasData = "Values", true
				st.text, st.dataStart = text[:t.start], t.end
				return st, true
			case st.kind == "INSERT" && prev.is(text, "FORMAT") && !namesTable(text, prev2):
				st.format, st.hasData = t.text(text), true
				st.text, st.dataStart = text[:prev.start], skipToData(text, t.end)
				if more && st.dataStart == len(text) {
					return st, false // the line break may still come
				}
				return st, true
			case st.kind == "INSERT" && (word == "SELECT" || word == "WITH"):
				st.selects = true
			case prev.is(text, "FORMAT") && l.endsAfter():
				st.format = t.text(text)
			}
		}
		prev, prev2 = t, prev
	}
	return st, !more
}

// namesTable tells whether the token after prev is the name of the table of an
// INSERT.
func namesTable(text string, prev token) bool {
	return prev.is(text, "INTO") || prev.is(text, "TABLE") || prev.text(text) == "."
}

// skipToData moves past the blanks after FORMAT name and one line break, as
// ClickHouse's parser does.
func skipToData(text string, pos int) int {
	for pos < len(text) && (text[pos] == ' ' || text[pos] == '\t' || text[pos] == '\f') {
		pos++
	}
	if pos < len(text) && text[pos] == '\r' {
		pos++
	}
	if pos < len(text) && text[pos] == '\n' {
		pos++
	}
	return pos
}

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenWord
	tokenOpen
	tokenClose
	tokenSemicolon
	tokenOther // strings, quoted names, numbers, operators
)

type token struct {
	kind       tokenKind
	start, end int
}

func (t token) text(s string) string { return s[t.start:t.end] }

func (t token) is(s, word string) bool {
	return t.kind == tokenWord && strings.EqualFold(t.text(s), word)
}

// lexer splits SQL into tokens; it skips blanks and comments.
type lexer struct {
	text string
	pos  int
}

// endsAfter tells whether only a semicolon or a SETTINGS clause follows, which
// is what makes a word after FORMAT the format and not an alias.
func (l *lexer) endsAfter() bool {
	ahead := *l
	t := ahead.next()
	for t.kind == tokenSemicolon {
		t = ahead.next()
	}
	return t.kind == tokenEnd || t.is(l.text, "SETTINGS")
}

func (l *lexer) next() token {
	l.skipBlanks()
	s, start := l.text, l.pos
	if start >= len(s) {
		return token{tokenEnd, start, start}
	}
	kind := tokenOther
	switch c := s[start]; {
	case isWordStart(c):
		kind = tokenWord
		for l.pos < len(s) && isWord(s[l.pos]) {
			l.pos++
		}
	case c >= '0' && c <= '9':
		for l.pos < len(s) && (isWord(s[l.pos]) || s[l.pos] == '.') {
			l.pos++
		}
	case c == '\'' || c == '"' || c == '`':
		l.skipQuoted(c)
	case c == '$':
		l.skipHeredoc()
	case c == '(' || c == '[' || c == '{':
		kind = tokenOpen
		l.pos++
	case c == ')' || c == ']' || c == '}':
		kind = tokenClose
		l.pos++
	case c == ';':
		kind = tokenSemicolon
		l.pos++
	default:
		l.pos++
	}
	return token{kind, start, l.pos}
}

func (l *lexer) skipBlanks() {
	for l.pos < len(l.text) {
		rest := l.text[l.pos:]
		switch {
		case strings.IndexByte(" \t\r\n\f\v", rest[0]) >= 0:
			l.pos++
		case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "#!"), strings.HasPrefix(rest, "# "):
			l.skipPast("\n")
		case strings.HasPrefix(rest, "/*"):
			l.pos += 2
			l.skipPast("*/")
		default:
			return
		}
	}
}

func (l *lexer) skipPast(mark string) {
	if i := strings.Index(l.text[l.pos:], mark); i >= 0 {
		l.pos += i + len(mark)
	} else {
		l.pos = len(l.text)
	}
}

// skipQuoted moves past a string or a quoted name, where a backslash escapes
// and a doubled quote stands for itself.
func (l *lexer) skipQuoted(quote byte) {
	for l.pos++; l.pos < len(l.text); l.pos++ {
		switch l.text[l.pos] {
		case '\\':
			l.pos++
		case quote:
			if l.pos+1 < len(l.text) && l.text[l.pos+1] == quote {
				l.pos++
				continue
			}
			l.pos++
			return
		}
	}
	l.pos = len(l.text)
}

// skipHeredoc moves past $tag$ … $tag$, or past a lone dollar sign.
func (l *lexer) skipHeredoc() {
	end := l.pos + 1
	for end < len(l.text) && isWord(l.text[end]) {
		end++
	}
	if end == len(l.text) || l.text[end] != '$' {
		l.pos++
		return
	}
	tag := l.text[l.pos : end+1]
	l.pos = end + 1
	l.skipPast(tag)
}

func isWordStart(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func isWord(c byte) bool { return isWordStart(c) || c >= '0' && c <= '9' }
