-- min_code: 1
--
-- Ids of runs that were deleted long ago are set free, the oldest first.

CREATE INDEX tombstones_at ON tombstones (at);
