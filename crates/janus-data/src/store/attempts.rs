//! First attempts of a model at samples, which reflections are about.

use sqlx::{Connection, Row, sqlite::SqliteRow};

use super::Store;
use crate::Result;

/// What is kept of the attempts at one sample.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredAttempt {
    /// The analysis, without its verdict's line.
    pub analysis: String,
    /// What the verdict's line says, 0 to 1.
    pub p: f64,
    /// Whether it came to its end before the limit of tokens.
    pub ended: bool,
    /// How many of its quotes occur in the pair, and how many there are.
    pub quotes: [usize; 2],
    /// Tokens that it wrote.
    pub tokens: usize,
    /// How many attempts there were.
    pub tries: usize,
    /// Whether it failed.
    pub failed: bool,
}

impl Store {
    /// What is kept of the attempts at a sample under a key.
    ///
    /// # Errors
    /// When the database fails.
    pub fn attempt(&mut self, key: &str, sample: &str) -> Result<Option<StoredAttempt>> {
        let query = "SELECT analysis, p, ended, quotes_found, quotes, tokens, tries, failed FROM failures \
                     WHERE key = ? AND sample = ?";
        let row = self.optional(sqlx::query(query).bind(key.to_owned()).bind(sample.to_owned()))?;
        let count = |row: &SqliteRow, at: usize| -> sqlx::Result<usize> {
            let count: i64 = row.try_get(at)?;
            Ok(count.unsigned_abs() as usize)
        };
        let read = |row: SqliteRow| -> sqlx::Result<StoredAttempt> {
            Ok(StoredAttempt {
                analysis: row.try_get(0)?,
                p: row.try_get(1)?,
                ended: row.try_get(2)?,
                quotes: [count(&row, 3)?, count(&row, 4)?],
                tokens: count(&row, 5)?,
                tries: count(&row, 6)?,
                failed: row.try_get(7)?,
            })
        };
        row.map(read).transpose().map_err(|source| self.error("read", source))
    }

    /// Keeps the attempts at samples under a key, all in one transaction; those that are there already are replaced.
    ///
    /// # Errors
    /// When the database fails; nothing is kept then.
    pub fn keep_attempts(&mut self, key: &str, attempts: &[(String, StoredAttempt)]) -> Result<()> {
        let connection = &mut self.connection;
        let result = self.runtime.block_on(async {
            let mut transaction = connection.begin().await?;
            for (sample, attempt) in attempts {
                let query = "INSERT OR REPLACE INTO failures (key, sample, analysis, p, ended, quotes_found, quotes, \
                             tokens, tries, failed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
                sqlx::query(query)
                    .bind(key.to_owned())
                    .bind(sample.clone())
                    .bind(attempt.analysis.clone())
                    .bind(attempt.p)
                    .bind(attempt.ended)
                    .bind(attempt.quotes[0] as i64)
                    .bind(attempt.quotes[1] as i64)
                    .bind(attempt.tokens as i64)
                    .bind(attempt.tries as i64)
                    .bind(attempt.failed)
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await
        });
        result.map_err(|source| self.error("add to", source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_back_as_they_were_under_their_key_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut store = Store::open(folder.path().join("failures.sqlite")).expect("made");
        let attempt = StoredAttempt {
            analysis: "It says \"'\".".to_owned(),
            p: 0.1 + 0.2,
            ended: true,
            quotes: [1, 2],
            tokens: 7,
            tries: 3,
            failed: true,
        };
        store.keep_attempts("k", &[("a".to_owned(), attempt.clone())]).expect("kept");
        assert_eq!(store.attempt("k", "a").expect("read"), Some(attempt.clone()));
        assert_eq!(store.attempt("k", "b").expect("read"), None);
        assert_eq!(store.attempt("other", "a").expect("read"), None);
        let later = StoredAttempt { failed: false, ..attempt };
        store.keep_attempts("k", &[("a".to_owned(), later.clone())]).expect("replaced");
        assert_eq!(store.attempt("k", "a").expect("read"), Some(later));
    }
}
