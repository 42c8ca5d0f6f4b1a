package check

// Between lets a test stop repairs: f is told each step, and its error ends the
// repair there as a kill would.
func (c *Checker) Between(f func(step string) error) { c.between = f }
