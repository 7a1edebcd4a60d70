-- The trace of the bot that is recorded: joining is part of its story.
ALTER TABLE recordings.recordings ADD COLUMN traceparent text;
