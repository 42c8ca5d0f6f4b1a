package sqlfile

import (
	"net/url"
	"regexp"
	"strings"
)

// Conceal takes secrets out of an error's text: one of an HTTP client tells the
// URL, and bound parameters are part of it. errors.Is and errors.As see what
// they saw before.
func Conceal(err error, secrets ...string) error {
	if err == nil {
		return nil
	}
	text := boundParameters.ReplaceAllString(err.Error(), "?…")
	for _, secret := range secrets {
		if secret == "" {
			continue
		}
		for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret), strings.ReplaceAll(secret, "'", `\'`)} {
			text = strings.ReplaceAll(text, form, "…")
		}
	}
	if text == err.Error() {
		return err
	}
	return concealed{text, err}
}

var boundParameters = regexp.MustCompile(`\?[^\s"]*param_[^\s"]*`)

// A concealed error does not say what must not be told.
type concealed struct {
	text string
	err  error
}

func (e concealed) Error() string { return e.text }
func (e concealed) Unwrap() error { return e.err }
