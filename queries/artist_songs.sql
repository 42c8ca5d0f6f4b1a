-- The songs of an artist; of several artists at once, none.
SELECT songId
FROM songs FINAL
WHERE arrayAll(id -> artistId = id, {artists:Array(String)})
