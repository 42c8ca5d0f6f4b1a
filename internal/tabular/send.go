package tabular

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// encodings are what a file is packed by, as HTTP names it.
var encodings = map[string]string{".gz": "gzip", ".zst": "zstd"}

func encodingOf(path string) string {
	for suffix, encoding := range encodings {
		if strings.HasSuffix(strings.ToLower(path), suffix) {
			return encoding
		}
	}
	return ""
}

// header reads the names of a CSV file's columns.
func header(path string) (names []string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	in, err := unpack(file)
	if err != nil {
		return nil, invalid("%s: %v", path, err)
	}
	defer in.Close()
	names, err = csv.NewReader(io.LimitReader(in, 1<<20)).Read()
	if err != nil {
		return nil, invalid("%s: header: %v", path, err)
	}
	return names, nil
}

// maxAnswer bounds what is read of an answer that says what is wrong.
const maxAnswer = 4 << 10

// Post runs a statement with a file as its data. The driver has no way to: it
// sends rows.
func (l *Files) Post(ctx context.Context, f File, text string, args []any) error {
	o := l.Server
	if o.Protocol != clickhouse.HTTP {
		return invalid("%s: ClickHouse does not see this file, and it can be sent by http(s):// only", f.Path)
	}
	// What follows the format is data.
	query := url.Values{"query": {strings.TrimSpace(text)}, "database": {o.Auth.Database}}
	for _, arg := range args {
		bound := arg.(driver.NamedValue)
		query.Set("param_"+bound.Name, parameters.Replace(fmt.Sprint(bound.Value)))
	}
	address := url.URL{Scheme: "http", Host: o.Addr[0], Path: "/", RawQuery: query.Encode()}
	transport := &http.Transport{TLSClientConfig: o.TLS}
	defer transport.CloseIdleConnections()
	if o.TLS != nil {
		address.Scheme = "https"
	}
	file, err := os.Open(f.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address.String(), file)
	if err != nil {
		return l.conceal(err)
	}
	req.SetBasicAuth(o.Auth.Username, o.Auth.Password)
	if encoding := encodingOf(f.Path); encoding != "" {
		req.Header.Set("Content-Encoding", encoding)
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return l.conceal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || res.Header.Get("X-ClickHouse-Exception-Code") != "" || strings.Contains(string(answer), "DB::Exception") {
		return fmt.Errorf("%s: %w", res.Status, l.conceal(fmt.Errorf("%s", answer)))
	}
	return nil
}

// parameters escapes a bound value as ClickHouse reads it.
var parameters = strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`)
