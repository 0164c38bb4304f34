-- The argument by which a browser knows a payload's call, and whether janus-http's rules disagree with the label.
ALTER TABLE sample_info ADD COLUMN argument TEXT;
ALTER TABLE sample_info ADD COLUMN hard BOOL;

-- Runs of the generator: what was asked for, and the number that comes next. Not part of what a database says.
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    settings TEXT NOT NULL,
    next INTEGER NOT NULL,
    finished BOOL NOT NULL
);
