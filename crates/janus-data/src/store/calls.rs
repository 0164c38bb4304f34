//! Calls of language models: written down before they are made, with what came of them.

use sqlx::{Connection, Row, sqlite::SqliteRow};

use super::Store;
use crate::Result;

/// A call that is about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredCall<'a> {
    /// The agent that asks.
    pub agent: &'a str,
    /// The number of the twin pair that it is for.
    pub sample: u64,
    /// The model.
    pub model: &'a str,
    /// The key of the answer.
    pub key: &'a str,
    /// The digest of the prompt's file.
    pub prompt: &'a str,
}

/// An answer that was paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredReply<'a> {
    /// The text.
    pub text: &'a str,
    /// Tokens read.
    pub tokens_in: u64,
    /// Tokens written.
    pub tokens_out: u64,
}

/// What an agent's calls came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallSum {
    /// The agent.
    pub agent: String,
    /// The model.
    pub model: String,
    /// Calls that were answered.
    pub answered: u64,
    /// Calls that ended in an error.
    pub failed: u64,
    /// Calls that never ended.
    pub unended: u64,
    /// Tokens read.
    pub tokens_in: u64,
    /// Tokens written.
    pub tokens_out: u64,
}

impl Store {
    /// Writes down a call before it is made, and gives its number.
    ///
    /// # Errors
    /// When the database fails.
    pub fn begin_call(&mut self, call: &StoredCall<'_>) -> Result<i64> {
        let query = sqlx::query("INSERT INTO calls (agent, sample, model, key, prompt) VALUES (?, ?, ?, ?, ?)")
            .bind(call.agent.to_owned())
            .bind(call.sample.cast_signed())
            .bind(call.model.to_owned())
            .bind(call.key.to_owned())
            .bind(call.prompt.to_owned());
        let result = self.runtime.block_on(query.execute(&mut self.connection));
        Ok(result.map_err(|source| self.error("add to", source))?.last_insert_rowid())
    }

    /// Writes down what came of a call: an answer, kept under its key in the same transaction, or an error's words.
    ///
    /// # Errors
    /// When the database fails; nothing is kept then.
    pub fn end_call(
        &mut self,
        number: i64,
        call: &StoredCall<'_>,
        outcome: std::result::Result<StoredReply<'_>, &str>,
    ) -> Result<()> {
        let connection = &mut self.connection;
        let (words, tokens) = match outcome {
            Ok(reply) => ("answered", Some((reply.tokens_in.cast_signed(), reply.tokens_out.cast_signed()))),
            Err(words) => (words, None),
        };
        let result = self.runtime.block_on(async {
            let mut transaction = connection.begin().await?;
            sqlx::query("UPDATE calls SET outcome = ?, tokens_in = ?, tokens_out = ? WHERE id = ?")
                .bind(words.to_owned())
                .bind(tokens.map(|tokens| tokens.0))
                .bind(tokens.map(|tokens| tokens.1))
                .bind(number)
                .execute(&mut *transaction)
                .await?;
            if let (Ok(reply), Some((tokens_in, tokens_out))) = (outcome, tokens) {
                let query =
                    "INSERT OR REPLACE INTO responses (key, model, text, tokens_in, tokens_out) VALUES (?, ?, ?, ?, ?)";
                sqlx::query(query)
                    .bind(call.key.to_owned())
                    .bind(call.model.to_owned())
                    .bind(reply.text.to_owned())
                    .bind(tokens_in)
                    .bind(tokens_out)
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await
        });
        result.map_err(|source| self.error("add to", source))
    }

    /// Writes down what was not used.
    ///
    /// # Errors
    /// When the database fails.
    pub fn reject(&mut self, agent: &str, sample: u64, reason: &str, detail: &str) -> Result<()> {
        let query = sqlx::query("INSERT INTO rejections (agent, sample, reason, detail) VALUES (?, ?, ?, ?)")
            .bind(agent.to_owned())
            .bind(sample.cast_signed())
            .bind(reason.to_owned())
            .bind(detail.to_owned());
        let result = self.runtime.block_on(query.execute(&mut self.connection));
        result.map(drop).map_err(|source| self.error("add to", source))
    }

    /// What all calls came to, by agent and model.
    ///
    /// # Errors
    /// When the database fails.
    pub fn call_sums(&mut self) -> Result<Vec<CallSum>> {
        let query = "SELECT agent, model, sum(outcome IS 'answered'), sum(outcome IS NOT NULL AND outcome <> 'answered'), \
                     sum(outcome IS NULL), coalesce(sum(tokens_in), 0), coalesce(sum(tokens_out), 0) \
                     FROM calls GROUP BY agent, model ORDER BY min(id)";
        let rows = self.runtime.block_on(sqlx::query(query).fetch_all(&mut self.connection));
        let rows = rows.map_err(|source| self.error("read", source))?;
        let count = |row: &SqliteRow, at: usize| -> sqlx::Result<u64> {
            let count: i64 = row.try_get(at)?;
            Ok(count.unsigned_abs())
        };
        let read = |row: &SqliteRow| -> sqlx::Result<CallSum> {
            Ok(CallSum {
                agent: row.try_get(0)?,
                model: row.try_get(1)?,
                answered: count(row, 2)?,
                failed: count(row, 3)?,
                unended: count(row, 4)?,
                tokens_in: count(row, 5)?,
                tokens_out: count(row, 6)?,
            })
        };
        rows.iter().map(read).collect::<sqlx::Result<_>>().map_err(|source| self.error("read", source))
    }

    /// How often something was not used, by agent and reason.
    ///
    /// # Errors
    /// When the database fails.
    pub fn rejection_counts(&mut self) -> Result<Vec<(String, String, u64)>> {
        let query = "SELECT agent, reason, count(*) FROM rejections GROUP BY agent, reason ORDER BY agent, reason";
        let rows = self.runtime.block_on(sqlx::query(query).fetch_all(&mut self.connection));
        let rows = rows.map_err(|source| self.error("read", source))?;
        let read = |row: &SqliteRow| -> sqlx::Result<(String, String, u64)> {
            let count: i64 = row.try_get(2)?;
            Ok((row.try_get(0)?, row.try_get(1)?, count.unsigned_abs()))
        };
        rows.iter().map(read).collect::<sqlx::Result<_>>().map_err(|source| self.error("read", source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_there_before_its_answer_and_its_answer_is_kept_with_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("calls.sqlite");
        let mut store = Store::open(&path).expect("made");
        let call = StoredCall { agent: "content", sample: 3, model: "m", key: "k", prompt: "sha256:0" };
        let first = store.begin_call(&call).expect("begun");
        drop(store);
        // A kill: the call is known, its answer is not.
        let mut store = Store::open(&path).expect("opened");
        assert_eq!(store.response("k").expect("read"), None);
        let second = store.begin_call(&call).expect("begun");
        assert!(second > first);
        store.end_call(second, &call, Ok(StoredReply { text: "t", tokens_in: 5, tokens_out: 7 })).expect("ended");
        let third = store.begin_call(&StoredCall { key: "l", ..call }).expect("begun");
        store.end_call(third, &call, Err("429 slow down")).expect("ended");
        assert_eq!(store.response("k").expect("read"), Some(("t".to_owned(), 5, 7)));
        let sum = CallSum {
            agent: "content".to_owned(),
            model: "m".to_owned(),
            answered: 1,
            failed: 1,
            unended: 1,
            tokens_in: 5,
            tokens_out: 7,
        };
        assert_eq!(store.call_sums().expect("read"), [sum]);
        for reason in ["quote", "length", "quote"] {
            store.reject("analysis", 3, reason, "...").expect("kept");
        }
        let counts = store.rejection_counts().expect("read");
        assert_eq!(
            counts,
            [("analysis".to_owned(), "length".to_owned(), 1), ("analysis".to_owned(), "quote".to_owned(), 2)]
        );
    }
}
