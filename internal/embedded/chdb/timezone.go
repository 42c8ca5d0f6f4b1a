package chdb

import (
	"errors"
	"fmt"

	"github.com/ebitengine/purego"
)

// setTimeZone makes UTC the time zone of the engine. The engine takes it from
// the environment of C and not from its configuration, and without cgo
// os.Setenv does not reach that environment.
func setTimeZone() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("set the time zone of the ClickHouse library: %v", r)
		}
	}()
	var setenv func(name, value string, overwrite int32) int32
	purego.RegisterLibFunc(&setenv, purego.RTLD_DEFAULT, "setenv")
	if setenv("TZ", "UTC", 1) != 0 {
		return errors.New("set the time zone of the ClickHouse library: setenv failed")
	}
	return nil
}
