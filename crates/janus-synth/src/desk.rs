//! The desk at which model-backed agents ask: every call is written down before it is made, nothing answered is paid for
//! twice, a server that asks for less gets less, and the work ends within its budget.

use std::{
    cell::{Cell, RefCell},
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use crate::{ChatClient, ChatReply, ChatRequest, Dice, Error, Result, Usage};

/// A call as it is written down before it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The agent that asks.
    pub agent: &'static str,
    /// The number of the twin pair that it is for.
    pub sample: u64,
    /// The model.
    pub model: String,
    /// The key of the answer ([`ChatRequest::key`]).
    pub key: String,
    /// The digest of the prompt's file, `sha256:...`.
    pub prompt: String,
}

/// Why what an agent made is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectReason {
    /// It is no JSON, twice.
    NotJson,
    /// It is JSON of another form, twice.
    WrongShape,
    /// A part of it is longer than allowed, or empty.
    Length,
    /// It has control bytes where none may be.
    ControlBytes,
    /// It sets a header that it may not set.
    Header,
    /// It holds the key of the server.
    Secret,
    /// It quotes what the pair does not hold, or nothing.
    Quote,
    /// It says the opposite of the label.
    Disagrees,
    /// It speaks of how the sample was made.
    Leak,
    /// Neither the policy table nor the browser confirms the label.
    NotConfirmed,
    /// The twins do not differ.
    SameTwins,
    /// The quality agent turned it down.
    Quality,
    /// In the browser the twins do not do what their labels say.
    Browser,
}

impl RejectReason {
    /// The name in the reject log.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotJson => "not JSON",
            Self::WrongShape => "wrong shape",
            Self::Length => "length",
            Self::ControlBytes => "control bytes",
            Self::Header => "header",
            Self::Secret => "secret",
            Self::Quote => "quote",
            Self::Disagrees => "disagrees with the label",
            Self::Leak => "speaks of its making",
            Self::NotConfirmed => "label not confirmed",
            Self::SameTwins => "twins are the same",
            Self::Quality => "quality agent",
            Self::Browser => "browser",
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Something that was not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The agent whose work it is.
    pub agent: &'static str,
    /// The number of the twin pair.
    pub sample: u64,
    /// Why.
    pub reason: RejectReason,
    /// What exactly, cut to [`LONGEST_DETAIL`] bytes.
    pub detail: String,
}

/// The longest detail of a rejection, in bytes.
pub const LONGEST_DETAIL: usize = 300;

/// Where calls, answers and rejections rest: what a store must offer.
pub trait CallLedger: Send {
    /// The answer under a key, if it was paid for.
    ///
    /// # Errors
    /// When the ledger fails.
    fn reply(&mut self, key: &str) -> Result<Option<ChatReply>>;

    /// Writes down that a call is about to be made, and gives its number.
    ///
    /// # Errors
    /// When the ledger fails.
    fn begin(&mut self, call: &Call) -> Result<i64>;

    /// Writes down what came of a call: the answer, kept under the call's key, or the error's words.
    ///
    /// # Errors
    /// When the ledger fails.
    fn end(&mut self, number: i64, call: &Call, outcome: std::result::Result<&ChatReply, &str>) -> Result<()>;

    /// Writes down what was not used.
    ///
    /// # Errors
    /// When the ledger fails.
    fn reject(&mut self, rejection: &Rejection) -> Result<()>;
}

/// How the desk asks.
#[derive(Debug, Clone, PartialEq)]
pub struct DeskConfig {
    /// The model's name on the server.
    pub model: String,
    /// The most tokens to spend, read and written; answers that were paid for cost nothing.
    pub budget: Option<u64>,
    /// The most calls at a time.
    pub concurrency: usize,
    /// How often a call is made until it is answered.
    pub tries: u32,
    /// The first pause between two tries; each further one is twice as long, up to a minute.
    pub pause: Duration,
    /// What must never be in a reply: the server's key.
    pub secret: Option<String>,
    /// The seed of the pauses.
    pub seed: u64,
}

impl DeskConfig {
    /// Four calls at a time, five tries, no budget.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            budget: None,
            concurrency: 4,
            tries: 5,
            pause: Duration::from_millis(500),
            secret: None,
            seed: 0,
        }
    }
}

/// What all desks of a run share.
pub struct Office {
    config: DeskConfig,
    ledger: Mutex<Box<dyn CallLedger>>,
    spent: Mutex<Usage>,
    limiter: Limiter,
}

impl fmt::Debug for Office {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Office")
            .field("model", &self.config.model)
            .field("spent", &self.spent())
            .finish_non_exhaustive()
    }
}

impl Office {
    /// An office with a ledger.
    pub fn new(config: DeskConfig, ledger: Box<dyn CallLedger>) -> Arc<Self> {
        let limiter = Limiter::new(config.concurrency.max(1));
        Arc::new(Self { config, ledger: Mutex::new(ledger), spent: Mutex::default(), limiter })
    }

    /// How it asks.
    pub fn config(&self) -> &DeskConfig {
        &self.config
    }

    /// What was spent.
    pub fn spent(&self) -> Usage {
        *held(&self.spent)
    }

    /// Writes down what was not used.
    ///
    /// # Errors
    /// When the ledger fails.
    pub fn reject(&self, rejection: &Rejection) -> Result<()> {
        let end = rejection.detail.floor_char_boundary(LONGEST_DETAIL);
        let mut detail = rejection.detail[..end].to_owned();
        // The log is read by people.
        if let Some(secret) = self.config.secret.as_deref().filter(|secret| !secret.is_empty()) {
            detail = detail.replace(secret, "[key]");
        }
        held(&self.ledger).reject(&Rejection { detail, ..rejection.clone() })
    }
}

/// A lock whose holder may have panicked: what it guards is whole between two calls.
fn held<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// One desk: a client of its own, for one thread.
pub struct Desk {
    office: Arc<Office>,
    client: RefCell<Box<dyn ChatClient>>,
    sample: Cell<u64>,
    /// What the answers for this sample cost when they were paid for.
    of_sample: Cell<Usage>,
    sleep: fn(Duration),
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("office", &self.office).field("sample", &self.sample.get()).finish_non_exhaustive()
    }
}

impl Desk {
    /// A desk of an office.
    pub fn new(office: Arc<Office>, client: Box<dyn ChatClient>) -> Self {
        let (client, sample) = (RefCell::new(client), Cell::new(0));
        Self { office, client, sample, of_sample: Cell::default(), sleep: thread::sleep }
    }

    /// The office.
    pub fn office(&self) -> &Office {
        &self.office
    }

    /// What follows is for another twin pair.
    pub fn begin(&self, sample: u64) {
        self.sample.set(sample);
        self.of_sample.set(Usage::default());
    }

    /// What the answers for the twin pair cost, those that were paid for earlier too.
    pub fn of_sample(&self) -> Usage {
        self.of_sample.get()
    }

    /// Writes down that an agent's work for the twin pair is not used.
    ///
    /// # Errors
    /// When the ledger fails.
    pub fn reject(&self, agent: &'static str, reason: RejectReason, detail: &str) -> Result<()> {
        let detail = detail.to_owned();
        self.office.reject(&Rejection { agent, sample: self.sample.get(), reason, detail })
    }

    /// Asks, or reads what was answered before.
    ///
    /// # Errors
    /// When the budget is spent, the server does not answer in all tries, or the ledger fails.
    pub fn ask(&self, agent: &'static str, prompt: &str, request: &ChatRequest) -> Result<ChatReply> {
        let config = &self.office.config;
        let key = request.key();
        if let Some(reply) = held(&self.office.ledger).reply(&key)? {
            self.count(reply.usage);
            return Ok(reply);
        }
        let (sample, prompt) = (self.sample.get(), prompt.to_owned());
        let call = Call { agent, sample, model: request.model.clone(), key, prompt };
        let mut dice = Dice::new(config.seed, &call.key, 0);
        let mut pause = config.pause;
        let mut tried = 0;
        loop {
            let spent = self.office.spent().tokens();
            if let Some(budget) = config.budget.filter(|budget| spent + expected(request) > *budget) {
                return Err(Error::Budget { budget, spent });
            }
            tried += 1;
            self.office.limiter.enter();
            let number = held(&self.office.ledger).begin(&call);
            let answer = number.map(|number| (number, self.client.borrow_mut().chat(request)));
            let limited = matches!(&answer, Ok((_, Err(error))) if error.is_rate_limit());
            self.office.limiter.leave(limited);
            let (number, answer) = answer?;
            match answer {
                Ok(reply) => {
                    *held(&self.office.spent) += reply.usage;
                    held(&self.office.ledger).end(number, &call, Ok(&reply))?;
                    self.count(reply.usage);
                    return Ok(reply);
                }
                Err(error) => {
                    held(&self.office.ledger).end(number, &call, Err(&error.to_string()))?;
                    if !error.is_transient() || tried >= config.tries {
                        return Err(error);
                    }
                }
            }
            // Half of the pause is drawn, so that callers do not come back together.
            let drawn = dice.number(50, 100) as u32;
            (self.sleep)(pause * drawn / 100);
            pause = (pause * 2).min(Duration::from_secs(60));
        }
    }

    fn count(&self, usage: Usage) {
        let mut sum = self.of_sample.get();
        sum += usage;
        self.of_sample.set(sum);
    }
}

/// What a call will cost at least about: its prompt at four bytes a token, and a quarter of what it may write.
fn expected(request: &ChatRequest) -> u64 {
    let bytes: usize = request.messages.iter().map(|message| message.content.len()).sum();
    bytes as u64 / 4 + u64::from(request.max_tokens) / 4
}

/// How many calls may be under way: one more for each round of answers, half as many behind a refusal (AIMD, as TCP
/// shares a line).
#[derive(Debug)]
struct Limiter {
    most: f64,
    state: Mutex<(f64, usize)>,
    changed: Condvar,
}

impl Limiter {
    fn new(most: usize) -> Self {
        Self { most: most as f64, state: Mutex::new((most as f64, 0)), changed: Condvar::new() }
    }

    fn enter(&self) {
        let mut state = held(&self.state);
        while state.1 as f64 + 1.0 > state.0.floor().max(1.0) {
            state = self.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        state.1 += 1;
    }

    fn leave(&self, refused: bool) {
        let mut state = held(&self.state);
        state.1 -= 1;
        state.0 = if refused { (state.0 / 2.0).max(1.0) } else { (state.0 + 1.0 / state.0).min(self.most) };
        self.changed.notify_all();
    }

    #[cfg(test)]
    fn allowed(&self) -> usize {
        held(&self.state).0 as usize
    }
}

/// A ledger that ends with the process.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    replies: std::collections::HashMap<String, ChatReply>,
    /// Every call, and whether it ended.
    pub calls: Vec<(Call, bool)>,
    /// What was not used.
    pub rejections: Vec<Rejection>,
}

impl CallLedger for MemoryLedger {
    fn reply(&mut self, key: &str) -> Result<Option<ChatReply>> {
        Ok(self.replies.get(key).cloned())
    }

    fn begin(&mut self, call: &Call) -> Result<i64> {
        self.calls.push((call.clone(), false));
        Ok(self.calls.len() as i64 - 1)
    }

    fn end(&mut self, number: i64, call: &Call, outcome: std::result::Result<&ChatReply, &str>) -> Result<()> {
        if let Some(call) = usize::try_from(number).ok().and_then(|at| self.calls.get_mut(at)) {
            call.1 = true;
        }
        if let Ok(reply) = outcome {
            self.replies.insert(call.key.clone(), reply.clone());
        }
        Ok(())
    }

    fn reject(&mut self, rejection: &Rejection) -> Result<()> {
        self.rejections.push(rejection.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ScriptedClient;

    fn office(budget: Option<u64>) -> Arc<Office> {
        let config = DeskConfig { budget, pause: Duration::ZERO, ..DeskConfig::new("m") };
        Office::new(config, Box::new(MemoryLedger::default()))
    }

    #[test]
    fn what_was_answered_is_not_asked_again_and_counts_for_its_sample() {
        let office = office(None);
        let desk = Desk::new(office.clone(), Box::new(ScriptedClient::new(["one two"])));
        let request = ChatRequest::new("m").user("a question");
        desk.begin(7);
        let first = desk.ask("content", "p", &request).expect("answered");
        desk.begin(8);
        assert_eq!(desk.ask("content", "p", &request).expect("kept"), first);
        assert_eq!((desk.of_sample(), office.spent()), (first.usage, first.usage));
        let error = desk.ask("content", "p", &ChatRequest::new("m").user("another")).expect_err("the script has ended");
        assert!(matches!(error, Error::ScriptEnded));
    }

    #[test]
    fn a_budget_is_kept_before_the_call_that_would_break_it() {
        let desk = Desk::new(office(Some(100)), Box::new(ScriptedClient::new(["x"])));
        let long = ChatRequest::new("m").user("word ".repeat(100));
        let error = desk.ask("qa", "p", &long).expect_err("too dear").to_string();
        assert_eq!(error, "the budget of 100 tokens is spent (0 used)");
        assert!(desk.ask("qa", "p", &ChatRequest { max_tokens: 8, ..ChatRequest::new("m").user("x") }).is_ok());
    }

    #[test]
    fn a_refusal_halves_what_is_under_way_and_answers_bring_it_back() {
        let limiter = Limiter::new(4);
        for _ in 0..4 {
            limiter.enter();
        }
        limiter.leave(true);
        assert_eq!(limiter.allowed(), 2);
        (0..3).for_each(|_| limiter.leave(true));
        assert_eq!(limiter.allowed(), 1);
        for _ in 0..9 {
            limiter.enter();
            limiter.leave(false);
        }
        assert_eq!(limiter.allowed(), 4);
    }

    #[test]
    fn the_key_stays_out_of_the_reject_log() {
        struct Seen(Arc<Mutex<Vec<String>>>);
        impl CallLedger for Seen {
            fn reply(&mut self, _: &str) -> Result<Option<ChatReply>> {
                Ok(None)
            }
            fn begin(&mut self, _: &Call) -> Result<i64> {
                Ok(0)
            }
            fn end(&mut self, _: i64, _: &Call, _: std::result::Result<&ChatReply, &str>) -> Result<()> {
                Ok(())
            }
            fn reject(&mut self, rejection: &Rejection) -> Result<()> {
                self.0.lock().expect("held").push(rejection.detail.clone());
                Ok(())
            }
        }
        let seen = Arc::default();
        let config = DeskConfig { secret: Some("sk-123456".to_owned()), ..DeskConfig::new("m") };
        let office = Office::new(config, Box::new(Seen(Arc::clone(&seen))));
        let desk = Desk::new(office, Box::new(ScriptedClient::new([""; 0])));
        desk.reject("content", RejectReason::Secret, &format!("key sk-123456 {}", "é".repeat(400))).expect("kept");
        let detail = seen.lock().expect("held")[0].clone();
        assert!(detail.starts_with("key [key] é") && detail.len() <= LONGEST_DETAIL, "{detail}");
    }
}
