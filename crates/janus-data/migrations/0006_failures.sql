-- First attempts of a model at samples: failed ones, and right ones beside them. Not part of what a database says.
CREATE TABLE failures (
    key TEXT NOT NULL,      -- what made them: base, adapter, prompt, sampling, samples
    sample TEXT NOT NULL,
    analysis TEXT NOT NULL, -- without its verdict's line
    p REAL NOT NULL,        -- what the verdict's line says
    ended BOOL NOT NULL,    -- before the limit of tokens
    quotes_found INTEGER NOT NULL,
    quotes INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    failed BOOL NOT NULL,
    PRIMARY KEY (key, sample)
) WITHOUT ROWID;
