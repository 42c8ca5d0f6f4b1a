package queries

// Thin makes Counts leave out songs of values with more than many, and give
// about so many per window, judged by one song of so many.
func (db *DB) Thin(many, kept, sample int) { db.thinning = thinning{many, kept, sample} }
