-- Pooled hidden states of prompts, computed once. Not part of what a database says.
CREATE TABLE hidden_states (
    key TEXT NOT NULL,      -- what made them: base, adapter, precision, layers, poolings
    prompt TEXT NOT NULL,   -- the digest of the prompt's tokens
    states BLOB NOT NULL,   -- float32, little-endian
    PRIMARY KEY (key, prompt)
) WITHOUT ROWID;
