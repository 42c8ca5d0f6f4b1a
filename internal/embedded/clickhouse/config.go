package clickhouse

import (
	_ "embed"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed config.xml.tmpl
var configText string

var configTemplate = template.Must(template.New("config.xml").Funcs(template.FuncMap{"xml": escapeXML}).Parse(configText))

// writeConfig writes the server's configuration into dir and returns its path.
func writeConfig(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("create %s: %w", dir, err)
	}
	id, err := instanceID(dir)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	if err := configTemplate.Execute(&text, map[string]string{"Dir": dir, "Instance": id}); err != nil {
		return "", fmt.Errorf("make the configuration of ClickHouse: %w", err)
	}
	path := filepath.Join(dir, "config.xml")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return "", fmt.Errorf("write the configuration of ClickHouse: %w", err)
	}
	return path, nil
}

func escapeXML(s string) (string, error) {
	var b strings.Builder
	err := xml.EscapeText(&b, []byte(s))
	return b.String(), err
}
