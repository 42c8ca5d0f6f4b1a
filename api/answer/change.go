package answer

import (
	"cmp"
	"reflect"
	"slices"
)

// ChangeTo gives what makes c into the chart after, which answers the same
// question later. A cursor is no part of it.
func (c Chart) ChangeTo(after Chart) ChartChange {
	change := ChartChange{
		AsOf: after.AsOf, WindowStart: after.WindowStart, WindowEnd: after.WindowEnd,
		Source: after.Source, Stale: after.Stale, TotalPlays: after.TotalPlays, ComparedTo: after.ComparedTo,
		Changed: []Item{}, Removed: []string{},
	}
	gone := make(map[string]Item, len(c.Items))
	for _, item := range c.Items {
		gone[item.SongID] = item
	}
	for _, item := range after.Items {
		if before, was := gone[item.SongID]; !was || !reflect.DeepEqual(before, item) {
			change.Changed = append(change.Changed, item)
		}
		delete(gone, item.SongID)
	}
	for _, item := range c.Items {
		if _, is := gone[item.SongID]; is {
			change.Removed = append(change.Removed, item.SongID)
		}
	}
	return change
}

// Apply gives the chart that the change makes of c, which stays as it is.
func (c Chart) Apply(change ChartChange) Chart {
	c.AsOf, c.WindowStart, c.WindowEnd = change.AsOf, change.WindowStart, change.WindowEnd
	c.Source, c.Stale, c.TotalPlays, c.ComparedTo = change.Source, change.Stale, change.TotalPlays, change.ComparedTo
	replaced := make(map[string]bool, len(change.Changed)+len(change.Removed))
	for _, id := range change.Removed {
		replaced[id] = true
	}
	for _, item := range change.Changed {
		replaced[item.SongID] = true
	}
	items := make([]Item, 0, len(c.Items)+len(change.Changed))
	for _, item := range c.Items {
		if !replaced[item.SongID] {
			items = append(items, item)
		}
	}
	items = append(items, change.Changed...)
	slices.SortFunc(items, func(a, b Item) int { return cmp.Compare(a.Rank, b.Rank) })
	c.Items = items
	return c
}
