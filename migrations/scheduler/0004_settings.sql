-- The settings of a bot become one document, complete with the defaults of the time when the bot was made. Columns that SQL reads stay
-- beside it. The version before cannot write bots after this.
ALTER TABLE scheduler.bots ADD COLUMN settings jsonb;

UPDATE scheduler.bots SET settings = jsonb_strip_nulls(jsonb_build_object(
    'meeting', jsonb_build_object(
        'provider', provider, 'url', meeting_url, 'id', meeting_id, 'password', meeting_password),
    'display_name', display_name,
    'image', coalesce(image, ''),
    'start_time', to_char(start_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'end_time', to_char(end_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'recording_enabled', recording_enabled,
    'automatic_leave', jsonb_build_object(
        'waiting_room_timeout_ms', waiting_room_timeout_ms,
        'no_one_joined_timeout_ms', no_one_joined_timeout_ms,
        'everyone_left_timeout_ms', everyone_left_timeout_ms,
        'inactivity_timeout_ms', inactivity_timeout_ms,
        'max_duration_ms', max_duration_ms),
    'metadata', metadata,
    'priority', priority,
    'queue_timeout_ms', queue_timeout_ms,
    'max_retries', max_retries,
    'rejoin', rejoin,
    'deduplication_key', coalesce(deduplication_key, ''),
    -- Nobody knows any more what was asked for, and a bot keeps its size.
    'resources', jsonb_build_object(
        'cpu_millis', cpu_millis, 'memory_mb', memory_mb,
        'cpu_limit_millis', cpu_limit_millis, 'memory_limit_mb', memory_limit_mb)));

ALTER TABLE scheduler.bots
    ALTER COLUMN settings SET NOT NULL,
    DROP COLUMN meeting_url,
    DROP COLUMN meeting_id,
    DROP COLUMN meeting_password,
    DROP COLUMN display_name,
    DROP COLUMN image,
    DROP COLUMN recording_enabled,
    DROP COLUMN max_retries,
    DROP COLUMN rejoin,
    DROP COLUMN queue_timeout_ms,
    DROP COLUMN waiting_room_timeout_ms,
    DROP COLUMN no_one_joined_timeout_ms,
    DROP COLUMN everyone_left_timeout_ms,
    DROP COLUMN inactivity_timeout_ms,
    DROP COLUMN max_duration_ms,
    DROP COLUMN metadata;
