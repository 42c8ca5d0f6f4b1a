-- The charts each play counts in, as (dimension, value) pairs: the one place
-- that says so. Genre and artist are not among them, they follow from the song.
CREATE VIEW play_charts
AS
SELECT
    src,
    koff,
    at,
    ts,
    songId,
    if(counted,
       arrayConcat(
           [('global', '')],
           arrayMap(val -> ('region', val), arrayDistinct(arrayFilter(val -> val != '', [toString(country), toString(region)]))),
           arrayMap(val -> ('segment', toString(val)), segments),
           if(device != '', [('device', toString(device))], []),
           if(contextKind IN ('playlist', 'album'), [(toString(contextKind), contextId)], [])
       ),
       []) AS charts
FROM plays
