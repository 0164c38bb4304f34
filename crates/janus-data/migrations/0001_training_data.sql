-- The table of the original, unchanged.
CREATE TABLE IF NOT EXISTS training_data (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    request TEXT NOT NULL, response TEXT NOT NULL, analysis TEXT NOT NULL,
    is_vulnerable BOOL NOT NULL, vuln_category INTEGER NOT NULL
);
