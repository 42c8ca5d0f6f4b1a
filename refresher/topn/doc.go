// Package topn keeps the exact N best songs of a chart while plays enter and
// leave its window, without keeping the count of every song and without I/O.
//
// A [Chart] knows the exact counts of some songs, its candidates, and for all
// others a bound: a floor, which is a key (plays, id), and for each of those
// that were played since the floor was set, pending plays. Keys compare as the
// chart does: plays first, then the id in bytes. The invariant is
//
//	(count(s) - pending(s), s) <= floor   for every s that is not a candidate.
//
// So such a song counts at most floor.Plays + pending(s), and one with nothing
// pending is not above the floor. While no bound exceeds the key of the N-th
// best candidate, no other song is among the first N: they are exactly the N
// best candidates. Otherwise the chart says so and is rebased: its best songs
// are counted anew from the log of plays. Why the invariant holds:
//
//   - A rebase, and a trim of candidates, set the floor to a key that is not
//     below any song left out (and not below the floor before); nothing of
//     those left out is pending.
//   - Add raises count and pending of a song by one: their difference stays.
//   - Expire lowers both by one, or the count alone when nothing is pending.
//   - A candidate that has no plays left is dropped: its key (0, s) is below
//     any floor but that of a complete chart, in which it is no longer played.
//   - When too many songs have something pending, d is taken off each pending
//     (at least 0 is left) and added to floor.Plays. Where p >= d the difference
//     grows by d, as the floor does; where p < d, count <= floor.Plays + p is
//     below the new floor.Plays.
//
// A chart of few songs is complete: all songs with plays are candidates, the
// floor is zero and nothing ever has to be rebased. That, more than slack in
// the candidates, is what makes rebases rare.
//
// The idea of keeping more than N and refilling when the slack is used up is
// that of Yi, Yu, Yang, Xia and Chen, "Efficient Maintenance of Materialized
// Top-k Views", ICDE 2003; the bounds for songs that are not kept are ours.
package topn
