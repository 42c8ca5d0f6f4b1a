package migrations

// WithSteps makes a replay call step before each of its steps, and end when that
// fails.
func (o ReplayOptions) WithSteps(step func(name string) error) ReplayOptions {
	o.step = step
	return o
}
