-- Tables of rebuilds that were killed.
SELECT name FROM system.tables WHERE database = currentDatabase() AND startsWith(name, {prefix:String})
