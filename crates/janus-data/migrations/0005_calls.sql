-- Calls of language models, each written down before it is made. One that never ended was under way at a kill.
CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    agent TEXT NOT NULL,
    sample INTEGER NOT NULL,    -- the number of the twin pair
    model TEXT NOT NULL,
    key TEXT NOT NULL,          -- of the answer, in responses
    prompt TEXT NOT NULL,       -- the digest of the prompt's file
    outcome TEXT,               -- 'answered', an error's words, or nothing while it is under way
    tokens_in INTEGER,
    tokens_out INTEGER
);

-- What was made and not used.
CREATE TABLE rejections (
    id INTEGER PRIMARY KEY,
    agent TEXT NOT NULL,
    sample INTEGER NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL
);
