-- Takes what no day's partition takes: a clock that jumped by days, or a relay that was away for long, must fail no insert.
-- Usually empty. Its rows are deleted one by one, by age.
CREATE TABLE outbox_default PARTITION OF outbox DEFAULT
    WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
