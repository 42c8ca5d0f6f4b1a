package migrations

import (
	"context"
	"errors"
)

// WithSteps makes a replay call step before each of its steps, and end when that
// fails.
func (o ReplayOptions) WithSteps(step func(name string) error) ReplayOptions {
	o.step = step
	return o
}

// UpTo brings a new database to an older schema, and does not wire it.
func UpTo(ctx context.Context, url string, version uint) (err error) {
	db, options, err := open(url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := createDatabase(ctx, options); err != nil {
		return err
	}
	m, _, err := stepsLeft(db, options.Auth.Database)
	if err != nil {
		return err
	}
	return m.Migrate(version)
}

// Killed marks a step of a database as one that was killed, maybe when it was
// done.
func Killed(url string, version int) (err error) {
	db, options, err := open(url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	driver, err := schemaDriver(db, options.Auth.Database)
	if err != nil {
		return err
	}
	return driver.SetVersion(version, true)
}
