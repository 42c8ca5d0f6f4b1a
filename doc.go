// Package topk is the domain of the charts system: plays, dimensions, windows
// and charts, with their rules. It does no I/O and imports nothing else of
// this module; every other package depends on it.
package topk
