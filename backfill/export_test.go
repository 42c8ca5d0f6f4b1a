package backfill

import "time"

// WithSteps has a function told of each write before it is done: its error ends
// the backfill there, as a kill would.
func (o Options) WithSteps(step func(name string) error) Options { o.step = step; return o }

// InPieces sets how many plays are written at once.
func (o Options) InPieces(plays uint64) Options { o.chunk, o.published = plays, plays; return o }

// WithPatience sets how long another backfill is waited for.
func (o Options) WithPatience(d time.Duration) Options { o.patience = d; return o }

// Sent has files sent to ClickHouse as if it did not see them.
func (o Options) Sent() Options { o.sendFiles = true; return o }
