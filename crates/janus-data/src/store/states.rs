//! Hidden states that were computed once.

use sqlx::{Connection, Row};

use super::Store;
use crate::{Error, Result};

impl Store {
    /// The states of a prompt under a key, as they were kept.
    ///
    /// # Errors
    /// When the database fails, or what is stored is no list of numbers.
    pub fn states(&mut self, key: &str, prompt: &str) -> Result<Option<Vec<f32>>> {
        let query = "SELECT states FROM hidden_states WHERE key = ? AND prompt = ?";
        let row = self.optional(sqlx::query(query).bind(key.to_owned()).bind(prompt.to_owned()))?;
        let Some(row) = row else { return Ok(None) };
        let bytes: Vec<u8> = row.try_get(0).map_err(|source| self.error("read", source))?;
        if !bytes.len().is_multiple_of(4) {
            return Err(Error::States { path: self.path.clone(), bytes: bytes.len() });
        }
        let four = bytes.chunks_exact(4);
        Ok(Some(four.map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect()))
    }

    /// Keeps the states of prompts under a key, all in one transaction; those that are there already are replaced.
    ///
    /// # Errors
    /// When the database fails; nothing is kept then.
    pub fn keep_states(&mut self, key: &str, states: &[(String, Vec<f32>)]) -> Result<()> {
        let connection = &mut self.connection;
        let result = self.runtime.block_on(async {
            let mut transaction = connection.begin().await?;
            for (prompt, states) in states {
                let bytes: Vec<u8> = states.iter().flat_map(|value| value.to_le_bytes()).collect();
                sqlx::query("INSERT OR REPLACE INTO hidden_states (key, prompt, states) VALUES (?, ?, ?)")
                    .bind(key.to_owned())
                    .bind(prompt.to_owned())
                    .bind(bytes)
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
    use crate::error_chain;

    #[test]
    fn states_come_back_to_the_last_bit_under_their_key_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("states.sqlite");
        let mut store = Store::open(&path).expect("made");
        let numbers = vec![0.1f32, -0.0, f32::MIN_POSITIVE, 3e38];
        store.keep_states("k", &[("a".to_owned(), numbers.clone()), ("b".to_owned(), vec![1.0])]).expect("kept");
        store.keep_states("k", &[("b".to_owned(), vec![2.0])]).expect("replaced");
        drop(store);
        let mut store = Store::open(&path).expect("opened");
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(store.states("k", "a").expect("read").map(bits), Some(bits(numbers)));
        assert_eq!(store.states("k", "b").expect("read"), Some(vec![2.0]));
        assert_eq!(store.states("other", "a").expect("read"), None);
        let damage = "UPDATE hidden_states SET states = x'010203'";
        store.runtime.block_on(sqlx::raw_sql(damage).execute(&mut store.connection)).expect("damaged");
        let text = error_chain(&store.states("k", "a").expect_err("three bytes are no number"));
        assert!(text.contains("states.sqlite") && text.contains("3 bytes"), "{text}");
    }
}
