-- Drops the rows of a load.
ALTER TABLE {{.Table}}_loading DROP PARTITION {load:UUID}
