//! Samples in SQLite, through sqlx (feature `sqlite`).
//!
//! One writer, many readers (WAL); each call is one transaction, so a kill loses at most the one in flight. The calls
//! block: training and evaluation are not asynchronous, and the store keeps the runtime to itself.

mod attempts;
mod calls;
mod states;

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use janus_http::{Claim, HttpPair, VulnCategory};
use serde_json::{Map, Value};
use sqlx::{
    ConnectOptions, Connection, Row, Sqlite, SqliteConnection,
    query::Query,
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteRow},
};
use tokio::runtime::Runtime;

use crate::{Error, Origin, Part, Result, Sample};

pub use self::{
    attempts::StoredAttempt,
    calls::{CallSum, StoredCall, StoredReply},
};

/// The numbered migrations.
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// A database of samples.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    runtime: Runtime,
    connection: SqliteConnection,
    /// Whether the tables beside `training_data` are there.
    described: bool,
    /// The temporary file of a database that came packed.
    unpacked: Option<tempfile::NamedTempFile>,
}

/// A `.gz` unpacked, with a limit: what is packed may have been packed to fill a disk.
fn unpacked(path: &Path) -> std::io::Result<Option<tempfile::NamedTempFile>> {
    const LARGEST: u64 = 16 << 30;
    if path.extension().is_none_or(|extension| extension != "gz") {
        return Ok(None);
    }
    let mut file = tempfile::NamedTempFile::new()?;
    let packed = std::io::BufReader::new(std::fs::File::open(path)?);
    let copied = std::io::copy(&mut flate2::bufread::MultiGzDecoder::new(packed).take(LARGEST), &mut file)?;
    if copied == LARGEST { Err(std::io::Error::other("it unpacks to more than 16 GiB")) } else { Ok(Some(file)) }
}

impl Store {
    /// Opens a database for reading and writing, makes it where there is none, and brings it up to date.
    ///
    /// # Errors
    /// When the file cannot be opened, or is no database of ours.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .foreign_keys(true)
            .busy_timeout(std::time::Duration::from_secs(30));
        let mut store = Self::connect(path.as_ref(), options, "open")?;
        let migrated = store.runtime.block_on(MIGRATIONS.run(&mut store.connection));
        migrated.map_err(|source| store.error("bring up to date", sqlx::Error::Migrate(Box::new(source))))?;
        store.described = true;
        Ok(store)
    }

    /// Opens a database that is only read and never changed. One that has nothing but `training_data` is enough; one
    /// whose name ends in `.gz` is unpacked into a temporary file.
    ///
    /// # Errors
    /// When the file cannot be opened, or has no `training_data`.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let plain = unpacked(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
        let file = plain.as_ref().map_or(path, |plain| plain.path());
        let mut store = Self::connect(file, SqliteConnectOptions::new().read_only(true), "open")?;
        (store.path, store.unpacked) = (path.to_owned(), plain);
        store.optional(sqlx::query("SELECT id FROM training_data LIMIT 1"))?;
        // An older database is read as if it had nothing but `training_data`; opening it for writing brings it up to date.
        let query = "SELECT name FROM pragma_table_info('sample_info') WHERE name = 'hard'";
        store.described = store.optional(sqlx::query(query))?.is_some();
        Ok(store)
    }

    fn connect(path: &Path, options: SqliteConnectOptions, operation: &'static str) -> Result<Self> {
        let io = |source| Error::File { path: path.to_owned(), source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io)?;
        let options = options.filename(path).disable_statement_logging();
        let connection = runtime.block_on(options.connect()).map_err(|source| Error::Store {
            operation,
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { path: path.to_owned(), runtime, connection, described: false, unpacked: None })
    }

    fn error(&self, operation: &'static str, source: sqlx::Error) -> Error {
        Error::Store { operation, path: self.path.clone(), source }
    }

    fn optional(&mut self, query: Query<'_, Sqlite, SqliteArguments>) -> Result<Option<SqliteRow>> {
        let result = self.runtime.block_on(query.fetch_optional(&mut self.connection));
        result.map_err(|source| self.error("read", source))
    }

    /// Adds samples in one transaction and returns their row numbers. Names of samples are not stored: a row's name is
    /// its number. A twin is named by the number of a row that is there, or by the name of a sample of the same call.
    ///
    /// # Errors
    /// When a twin is neither, or the database fails; nothing is added then.
    pub fn insert(&mut self, samples: &[Sample]) -> Result<Vec<i64>> {
        let result = self.runtime.block_on(insert(&mut self.connection, samples, None));
        result.map_err(|source| self.error("add to", source))
    }

    /// The last run of the generator: its settings, the number that comes next, whether it is finished.
    ///
    /// # Errors
    /// When the database fails.
    pub fn last_run(&mut self) -> Result<Option<Run>> {
        let row =
            self.optional(sqlx::query("SELECT id, settings, next, finished FROM runs ORDER BY id DESC LIMIT 1"))?;
        let read = |row: SqliteRow| -> sqlx::Result<Run> {
            let next: i64 = row.try_get(2)?;
            Ok(Run {
                id: row.try_get(0)?,
                settings: row.try_get(1)?,
                next: next.unsigned_abs(),
                finished: row.try_get(3)?,
            })
        };
        row.map(read).transpose().map_err(|source| self.error("read", source))
    }

    /// Begins a run.
    ///
    /// # Errors
    /// When the database fails.
    pub fn begin_run(&mut self, settings: &str) -> Result<Run> {
        let query =
            sqlx::query("INSERT INTO runs (settings, next, finished) VALUES (?, 0, 0)").bind(settings.to_owned());
        let result = self.runtime.block_on(query.execute(&mut self.connection));
        let id = result.map_err(|source| self.error("add to", source))?.last_insert_rowid();
        Ok(Run { id, settings: settings.to_owned(), next: 0, finished: false })
    }

    /// Adds a run's samples and, in the same transaction, the number that comes next.
    ///
    /// # Errors
    /// As [`Store::insert`].
    pub fn advance(&mut self, run: &mut Run, samples: &[Sample], next: u64) -> Result<()> {
        let result = self.runtime.block_on(insert(&mut self.connection, samples, Some((run.id, next))));
        result.map_err(|source| self.error("add to", source))?;
        run.next = next;
        Ok(())
    }

    /// Ends a run and gives every sample its part, in the order of row numbers.
    ///
    /// # Errors
    /// When the database fails, or the number of parts is not that of the rows.
    pub fn finish(&mut self, run: &mut Run, parts: &[Part]) -> Result<()> {
        let result = self.runtime.block_on(finish(&mut self.connection, run.id, parts));
        result.map_err(|source| self.error("add to", source))?;
        run.finished = true;
        Ok(())
    }

    /// Packs the database into one file without a log beside it, for publication.
    ///
    /// # Errors
    /// When the database fails.
    pub fn pack(mut self) -> Result<()> {
        let result = self.runtime.block_on(async {
            sqlx::query("PRAGMA journal_mode = DELETE").execute(&mut self.connection).await?;
            sqlx::query("VACUUM").execute(&mut self.connection).await.map(drop)
        });
        result.map_err(|source| self.error("pack", source))
    }

    /// Every sample, in the order of row numbers; one that cannot be read is an error that names its row.
    ///
    /// # Errors
    /// When the database fails.
    pub fn samples(&mut self) -> Result<Vec<Result<Sample>>> {
        let query = if self.described {
            "SELECT t.*, i.claim, i.lineage, i.twin, i.part, i.kind, i.source, i.agent, i.seed, i.tokens_in, \
             i.tokens_out, i.browser, i.argument, i.hard FROM training_data t LEFT JOIN sample_info i ON i.id = t.id ORDER BY t.id"
        } else {
            "SELECT * FROM training_data ORDER BY id"
        };
        let result = self.runtime.block_on(sqlx::query(query).fetch_all(&mut self.connection));
        let rows = result.map_err(|source| self.error("read", source))?;
        Ok(rows.iter().map(|row| self.sample(row)).collect())
    }

    /// How many samples there are.
    ///
    /// # Errors
    /// When the database fails.
    pub fn count(&mut self) -> Result<u64> {
        let row = self.optional(sqlx::query("SELECT count(*) FROM training_data"))?;
        let count = row.map_or(Ok(0i64), |row| row.try_get(0)).map_err(|source| self.error("read", source))?;
        Ok(count.unsigned_abs())
    }

    /// An answer that was paid for: text, tokens read, tokens written.
    ///
    /// # Errors
    /// When the database fails.
    pub fn response(&mut self, key: &str) -> Result<Option<(String, u64, u64)>> {
        let query = "SELECT text, tokens_in, tokens_out FROM responses WHERE key = ?";
        let row = self.optional(sqlx::query(query).bind(key.to_owned()))?;
        let read = |row: SqliteRow| -> sqlx::Result<_> {
            let (tokens_in, tokens_out): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
            Ok((row.try_get(0)?, tokens_in.unsigned_abs(), tokens_out.unsigned_abs()))
        };
        row.map(read).transpose().map_err(|source| self.error("read", source))
    }

    /// Keeps an answer.
    ///
    /// # Errors
    /// When the database fails.
    pub fn keep_response(&mut self, key: &str, model: &str, text: &str, tokens: (u64, u64)) -> Result<()> {
        let query = "INSERT OR REPLACE INTO responses (key, model, text, tokens_in, tokens_out) VALUES (?, ?, ?, ?, ?)";
        let query = sqlx::query(query).bind(key.to_owned()).bind(model.to_owned()).bind(text.to_owned());
        let query = query.bind(tokens.0.cast_signed()).bind(tokens.1.cast_signed());
        let result = self.runtime.block_on(query.execute(&mut self.connection));
        result.map(drop).map_err(|source| self.error("add to", source))
    }

    fn sample(&self, row: &SqliteRow) -> Result<Sample> {
        let id: i64 = row.try_get("id").map_err(|source| self.error("read", source))?;
        self.read(row, id).map_err(|source| Error::StoredRow { id, source: Box::new(source) })
    }

    fn read(&self, row: &SqliteRow, id: i64) -> Result<Sample> {
        let sql = |source| self.error("read", source);
        // Bytes that are not UTF-8 are BLOBs in the TEXT column, so the declared type is not asked.
        let bytes = |name: &str| row.try_get_unchecked::<Vec<u8>, _>(name).map_err(sql);
        let number: i64 = row.try_get("vuln_category").map_err(sql)?;
        let category = VulnCategory::from_number(number).ok_or(Error::CategoryNumber { number })?;
        let pair =
            HttpPair::parse(bytes("request")?, bytes("response")?).map_err(|source| Error::Message { source })?;
        let text = |name: &str| -> Result<Option<String>> {
            if self.described { row.try_get(name).map_err(sql) } else { Ok(None) }
        };
        let whole = |name: &str| -> Result<Option<i64>> {
            if self.described { row.try_get(name).map_err(sql) } else { Ok(None) }
        };
        let claim = match text("claim")? {
            None => Claim::new(category),
            Some(json) => {
                let mut fields: Map<String, Value> =
                    serde_json::from_str(&json).map_err(|source| Error::Claim { source })?;
                fields.insert("category".to_owned(), category.name().into());
                serde_json::from_value(Value::Object(fields)).map_err(|source| Error::Claim { source })?
            }
        };
        let part = text("part")?
            .map(|name| name.parse().map_err(|source| Error::PartName { actual: name.clone(), source }))
            .transpose()?;
        Ok(Sample {
            id: id.to_string(),
            pair,
            claim,
            analysis: String::from_utf8_lossy(&bytes("analysis")?).into_owned(),
            is_vulnerable: row.try_get("is_vulnerable").map_err(sql)?,
            origin: Origin {
                lineage: text("lineage")?,
                twin: whole("twin")?.map(|twin| twin.to_string()),
                part,
                kind: text("kind")?,
                source: text("source")?,
                agent: text("agent")?,
                seed: whole("seed")?.map(i64::cast_unsigned),
                tokens_in: whole("tokens_in")?.map(i64::unsigned_abs),
                tokens_out: whole("tokens_out")?.map(i64::unsigned_abs),
                browser: text("browser")?,
                argument: text("argument")?,
                hard: whole("hard")?.map(|hard| hard != 0),
            },
        })
    }
}

/// A run of the generator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    id: i64,
    /// What was asked for.
    pub settings: String,
    /// The number that comes next.
    pub next: u64,
    /// Whether all is there.
    pub finished: bool,
}

async fn finish(connection: &mut SqliteConnection, run: i64, parts: &[Part]) -> sqlx::Result<()> {
    let mut transaction = connection.begin().await?;
    let rows = sqlx::query("SELECT id FROM training_data ORDER BY id").fetch_all(&mut *transaction).await?;
    if rows.len() != parts.len() {
        return Err(sqlx::Error::Protocol(format!("{} parts for {} rows", parts.len(), rows.len())));
    }
    for (row, part) in rows.iter().zip(parts) {
        let id: i64 = row.try_get(0)?;
        sqlx::query("UPDATE sample_info SET part = ? WHERE id = ?")
            .bind(part.name())
            .bind(id)
            .execute(&mut *transaction)
            .await?;
    }
    sqlx::query("UPDATE runs SET finished = 1 WHERE id = ?").bind(run).execute(&mut *transaction).await?;
    transaction.commit().await
}

async fn insert(
    connection: &mut SqliteConnection,
    samples: &[Sample],
    run: Option<(i64, u64)>,
) -> sqlx::Result<Vec<i64>> {
    let mut transaction = connection.begin().await?;
    let mut rows = Vec::with_capacity(samples.len());
    for sample in samples {
        let query = "INSERT INTO training_data (request, response, analysis, is_vulnerable, vuln_category) VALUES (?, ?, ?, ?, ?)";
        let mut query = sqlx::query(query);
        for message in [sample.pair.request().raw(), sample.pair.response().raw()] {
            query = match std::str::from_utf8(message) {
                Ok(text) => query.bind(text.to_owned()),
                Err(_) => query.bind(message.to_vec()),
            };
        }
        let query = query.bind(&sample.analysis).bind(sample.is_vulnerable).bind(sample.claim.category.number());
        rows.push(query.execute(&mut *transaction).await?.last_insert_rowid());
    }
    for (sample, row) in samples.iter().zip(&rows) {
        let origin = &sample.origin;
        let twin = match &origin.twin {
            None => None,
            Some(name) => {
                let inside = samples.iter().position(|other| other.id == *name).map(|index| rows[index]);
                let row = inside.or_else(|| name.parse().ok());
                Some(row.ok_or_else(|| {
                    sqlx::Error::Protocol(format!("sample {} names the twin {name:?}, which is not there", sample.id))
                })?)
            }
        };
        let mut claim = serde_json::to_value(&sample.claim).unwrap_or_default();
        if let Some(fields) = claim.as_object_mut() {
            fields.remove("category");
        }
        let query = "INSERT INTO sample_info (id, claim, lineage, twin, part, kind, source, agent, seed, tokens_in, tokens_out, browser, argument, hard) \
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        sqlx::query(query)
            .bind(row)
            .bind(claim.to_string())
            .bind(&origin.lineage)
            .bind(twin)
            .bind(origin.part.map(crate::Part::name))
            .bind(&origin.kind)
            .bind(&origin.source)
            .bind(&origin.agent)
            .bind(origin.seed.map(u64::cast_signed))
            .bind(origin.tokens_in.map(u64::cast_signed))
            .bind(origin.tokens_out.map(u64::cast_signed))
            .bind(&origin.browser)
            .bind(&origin.argument)
            .bind(origin.hard)
            .execute(&mut *transaction)
            .await?;
    }
    if let Some((run, next)) = run {
        sqlx::query("UPDATE runs SET next = ? WHERE id = ?")
            .bind(next.cast_signed())
            .bind(run)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error_chain;

    fn sample(id: &str, response: &[u8], twin: Option<&str>) -> Sample {
        Sample {
            id: id.to_owned(),
            pair: HttpPair::parse("GET / HTTP/1.1\r\n\r\n", response).expect("valid"),
            claim: Claim::new(VulnCategory::Xss).with_parameter("q").with_text("Reflected \"XSS\""),
            analysis: "Because.".to_owned(),
            is_vulnerable: true,
            origin: Origin {
                lineage: Some("page-7".to_owned()),
                twin: twin.map(str::to_owned),
                part: Some(Part::HoldOut),
                seed: Some(u64::MAX),
                tokens_in: Some(5),
                ..Origin::default()
            },
        }
    }

    #[test]
    fn samples_come_back_as_they_went_in_bytes_that_are_not_utf_8_too() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.sqlite");
        let samples = [
            sample("a", b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe", Some("b")),
            sample("b", b"HTTP/1.1 200 OK\r\n\r\nplain", Some("a")),
        ];
        let rows = Store::open(&path).expect("made").insert(&samples).expect("added");
        assert_eq!(rows, [1, 2]);
        for mut store in [Store::open(&path).expect("opened"), Store::open_read_only(&path).expect("opened")] {
            assert_eq!(store.count().expect("counted"), 2);
            let found: Vec<_> = store.samples().expect("read").into_iter().collect::<Result<_>>().expect("valid");
            for (index, (found, given)) in found.iter().zip(&samples).enumerate() {
                let mut expected = given.clone();
                expected.id = (index + 1).to_string();
                expected.origin.twin = Some((2 - index).to_string());
                assert_eq!(*found, expected);
            }
        }
    }

    #[test]
    fn a_database_with_nothing_but_training_data_opens_and_a_bad_row_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("original.sqlite");
        let mut bare =
            Store::connect(&path, SqliteConnectOptions::new().create_if_missing(true), "open").expect("made");
        let script = concat!(
            include_str!("../../migrations/0001_training_data.sql"),
            "INSERT INTO training_data (request, response, analysis, is_vulnerable, vuln_category) VALUES
             ('GET / HTTP/1.1\n\n', 'HTTP/1.1 200 OK\n\n', 'why', 1, 1), ('GET / HTTP/1.1\n\n', 'HTTP/1.1 200 OK\n\n', 'why', 0, 9);"
        );
        bare.runtime.block_on(sqlx::raw_sql(script).execute(&mut bare.connection)).expect("filled");
        drop(bare);
        let before = std::fs::read(&path).expect("there");
        let found = Store::open_read_only(&path).expect("opened").samples().expect("read");
        assert_eq!(found[0].as_ref().expect("valid").claim, Claim::new(VulnCategory::Xss));
        assert_eq!(
            error_chain(found[1].as_ref().expect_err("category 9")),
            "row 2: unknown vulnerability category number 9"
        );
        assert_eq!(std::fs::read(&path).expect("there"), before, "reading changes nothing");
        assert_eq!(Store::open(&path).expect("brought up to date").count().expect("counted"), 2);
    }

    #[test]
    fn what_is_no_database_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("not.sqlite");
        std::fs::write(&path, "not a database, but long enough to look at ".repeat(20)).expect("written");
        for result in [Store::open(&path), Store::open_read_only(&path)] {
            let text = error_chain(&result.expect_err("refused"));
            assert!(text.contains("not.sqlite") && text.contains("not a database"), "{text}");
        }
    }

    #[test]
    fn a_call_that_fails_adds_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut store = Store::open(folder.path().join("a.sqlite")).expect("made");
        let samples =
            [sample("a", b"HTTP/1.1 200 OK\r\n\r\n", None), sample("b", b"HTTP/1.1 200 OK\r\n\r\n", Some("nobody"))];
        assert!(error_chain(&store.insert(&samples).expect_err("no such twin")).contains("nobody"));
        assert_eq!(store.count().expect("counted"), 0);
    }

    #[test]
    fn an_answer_is_kept_under_its_key() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut store = Store::open(folder.path().join("a.sqlite")).expect("made");
        assert_eq!(store.response("k").expect("asked"), None);
        store.keep_response("k", "m", "text", (3, 4)).expect("kept");
        assert_eq!(store.response("k").expect("asked"), Some(("text".to_owned(), 3, 4)));
    }
}
