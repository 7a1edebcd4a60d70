-- How often a runner's start was commanded. 0: not known, as of rows that were written by a version before this one.
ALTER TABLE pool.assignments ADD COLUMN starts integer NOT NULL DEFAULT 0;
