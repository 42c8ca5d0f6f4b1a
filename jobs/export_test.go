package jobs

// LastDue is lastDue.
var LastDue = lastDue
