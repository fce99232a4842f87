-- What an event is about, and what it tells of it, as its source reads it.

ALTER TABLE event ADD COLUMN resource TEXT;
ALTER TABLE event ADD COLUMN tells TEXT NOT NULL DEFAULT '' CHECK (tells IN ('', 'failed', 'recovered'));
