// Package simulate makes plays as a music service would have them, sends them
// to the gateway as many phones would, and measures as a user would how soon
// they are on the charts.
//
//   - Load reads real weekly charts; they become a catalog of songs and the
//     proportions of countries and songs.
//   - Generator makes plays in those proportions: the same seed and the same
//     clock give the same plays.
//   - Segments gives the users' segments, for the loader.
//   - Sender posts plays at a rate and repeats what was not acknowledged.
//   - Probe measures freshness: from a play's acknowledgement to its presence
//     in the served chart.
package simulate
