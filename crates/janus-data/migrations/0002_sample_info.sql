-- What else is known of a row. A database without these tables still opens, trains and evaluates.
CREATE TABLE sample_info (
    id INTEGER PRIMARY KEY REFERENCES training_data (id) ON DELETE CASCADE,
    claim TEXT,          -- JSON: parameter, header, evidence, text
    lineage TEXT,        -- the template or grammar it grew from
    twin INTEGER,        -- the row with the opposite label that differs in the fewest bytes
    part TEXT,           -- train, head, validation, calibration, hold-out
    kind TEXT,           -- kind of claim, or context
    source TEXT,         -- hand, curated, uncurated
    agent TEXT,
    seed INTEGER,
    tokens_in INTEGER,
    tokens_out INTEGER,
    browser TEXT         -- what a browser did with it
);
CREATE INDEX sample_info_part ON sample_info (part);

-- Answers of language models that were paid for.
CREATE TABLE responses (
    key TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    text TEXT NOT NULL,
    tokens_in INTEGER NOT NULL,
    tokens_out INTEGER NOT NULL
);
