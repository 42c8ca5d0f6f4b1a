-- What the catalog's songs say of their artist.
SELECT
    argMax(artist, (updatedAt, songId)) AS name,
    arraySort(groupUniqArrayArray(genres)) AS genres,
    count() AS songs
FROM songs FINAL
WHERE artistId = {artist:String}
