//! Threads that stay awake for a while: a pass that writes a token asks for some two hundred small pieces of parallel work,
//! and waking a sleeping thread costs more than most of them take.
//!
//! While [`with_team`] runs its work, threads of a team wait in a loop for the pieces that it hands out. Nothing
//! about results depends on it: who does which piece never did. While they wait they ask the memory for what the next piece
//! will read, where the leader has said what that is ([`expect`]): writing a token is a matter of reading weights, and the
//! memory would have nothing to do.

use std::sync::{
    Mutex, TryLockError,
    atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering},
};

/// Rounds of waiting before a thread lets others run.
const PATIENCE: u32 = 4_000;

/// Bytes of a line of the caches.
const LINE: usize = 64;

/// Bytes that a waiting thread asks for before it looks again whether there is work.
const STRETCH: usize = 8 * LINE;

/// Bytes of what comes next that are asked for at most: half of a second cache.
const MOST_AHEAD: usize = 512 << 10;

/// One piece of parallel work.
struct Job<'a> {
    count: usize,
    /// How many indices a thread takes at once at least.
    least: usize,
    next: AtomicUsize,
    task: &'a (dyn Fn(usize) + Sync),
}

impl Job<'_> {
    /// The end of the stretch that begins at `first`: a share for each thread, then ever shorter stretches.
    fn end(&self, first: usize) -> usize {
        let threads = rayon::current_num_threads();
        let share = share_of(self.count);
        let size = if first < share * threads { share } else { (self.count - first) / (2 * threads) };
        (first + size.max(self.least)).min(self.count)
    }

    /// Does what is left of it.
    fn run(&self) {
        let _in_a_job = InAJob::enter();
        while let Ok(first) = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |first| (first < self.count).then(|| self.end(first)))
        {
            (first..self.end(first)).for_each(self.task);
        }
    }
}

/// A piece of work that hands out work does it alone: a thread that waited inside a piece could take up a member's place and
/// never come back.
struct InAJob(bool);

thread_local! {
    static IN_A_JOB: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

impl InAJob {
    fn enter() -> Self {
        Self(IN_A_JOB.replace(true))
    }
}

impl Drop for InAJob {
    fn drop(&mut self) {
        IN_A_JOB.set(self.0);
    }
}

/// Whether this thread is inside a piece of a team's work.
pub(crate) fn in_a_job() -> bool {
    IN_A_JOB.get()
}

/// What the threads of a team share.
struct Team {
    /// Changes with every job.
    round: AtomicUsize,
    /// The job that is handed out; null in between.
    job: AtomicPtr<Job<'static>>,
    /// Members that look at the job. One that comes late finds none and hinders nobody.
    inside: AtomicUsize,
    open: AtomicBool,
    panicked: AtomicBool,
    ahead: Ahead,
}

/// Memory that the next job will read, as addresses that nobody reads through: asking for one that is gone does nothing.
#[derive(Default)]
struct Ahead {
    first: AtomicUsize,
    bytes: AtomicUsize,
    /// Changes with every memory.
    turn: AtomicUsize,
}

/// What one member has asked for.
#[derive(Default)]
struct Asked {
    turn: usize,
    bytes: usize,
}

impl Ahead {
    fn set(&self, first: usize, bytes: usize) {
        self.first.store(first, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        self.turn.fetch_add(1, Ordering::Release);
    }

    /// Asks for some more bytes of the share that a member will likely have; `false` where all are asked for.
    fn ask(&self, member: usize, asked: &mut Asked) -> bool {
        let turn = self.turn.load(Ordering::Acquire);
        if asked.turn != turn {
            *asked = Asked { turn, bytes: 0 };
        }
        let share = share_of(self.bytes.load(Ordering::Relaxed));
        let end = (asked.bytes + STRETCH).min(share).min(MOST_AHEAD);
        let first = self.first.load(Ordering::Relaxed).wrapping_add(member * share);
        (asked.bytes..end).step_by(LINE).for_each(|byte| prefetch(first.wrapping_add(byte)));
        let more = end > asked.bytes;
        asked.bytes = end;
        more
    }
}

/// The share of each thread that is handed out in one piece: memory is read fastest so. What is left of the whole makes all
/// end together.
fn share_of(count: usize) -> usize {
    count / 4 * 3 / rayon::current_num_threads()
}

/// Asks for the line at an address, into the second cache.
pub(crate) fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which never faults, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(std::ptr::without_provenance(address));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

thread_local! {
    /// The team that this thread leads.
    static LED: std::cell::Cell<Option<*const Team>> = const { std::cell::Cell::new(None) };
}

/// Only one team at a time: two would have more threads than there are processors, and each waits awake.
static LEADING: Mutex<()> = Mutex::new(());

/// Waits until `done`, and lets others run where that takes long.
fn wait_until(done: impl Fn() -> bool) {
    let mut rounds = 0;
    while !done() {
        rounds += 1;
        if rounds < PATIENCE {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

impl Team {
    /// One of the threads besides the leader, from 1 on.
    fn member(&self, index: usize) {
        let (mut seen, mut asked) = (0, Asked::default());
        loop {
            let called = || self.round.load(Ordering::Acquire) != seen || !self.open.load(Ordering::Acquire);
            while !called() && self.ahead.ask(index, &mut asked) {}
            wait_until(called);
            let round = self.round.load(Ordering::Acquire);
            if round == seen {
                return;
            }
            seen = round;
            /// Leaves the job, however its work ends.
            struct Inside<'a>(&'a Team);
            impl Drop for Inside<'_> {
                fn drop(&mut self) {
                    if std::thread::panicking() {
                        self.0.panicked.store(true, Ordering::SeqCst);
                    }
                    self.0.inside.fetch_sub(1, Ordering::SeqCst);
                }
            }
            self.inside.fetch_add(1, Ordering::SeqCst);
            let _inside = Inside(self);
            // SAFETY: the leader takes the job away first and then waits until nobody is inside: whoever is, and has found it
            // (all of this in one order for all threads), may use it.
            if let Some(job) = unsafe { self.job.load(Ordering::SeqCst).as_ref() } {
                job.run();
            }
        }
    }

    /// Hands out a job, does its share, and waits for the others.
    fn lead(&self, job: &Job<'_>) {
        self.job.store(std::ptr::from_ref(job).cast_mut().cast(), Ordering::SeqCst);
        self.round.fetch_add(1, Ordering::SeqCst);
        /// The job is lent until every member has left it, also where the leader's own share panics.
        struct Wait<'a>(&'a Team);
        impl Drop for Wait<'_> {
            fn drop(&mut self) {
                self.0.job.store(std::ptr::null_mut(), Ordering::SeqCst);
                wait_until(|| self.0.inside.load(Ordering::SeqCst) == 0);
            }
        }
        let wait = Wait(self);
        job.run();
        drop(wait);
        assert!(!self.panicked.load(Ordering::SeqCst), "a piece of parallel work panicked");
    }
}

/// Runs `work` with threads that stay awake for its pieces of parallel work. Whoever asks for many small ones pays once for
/// starting these threads, and not for each piece; within such work it does nothing more.
pub fn with_team<R>(work: impl FnOnce() -> R) -> R {
    let members = rayon::current_num_threads() - 1;
    // A thread of the pool is inside other parallel work; a team within it could wait for itself.
    let inside = is_led() || in_a_job() || rayon::current_thread_index().is_some();
    if members == 0 || inside {
        return work();
    }
    let _leading = match LEADING.try_lock() {
        Ok(leading) => leading,
        // A panic in some work says nothing about the lock.
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return work(),
    };
    let team = Team {
        round: AtomicUsize::new(0),
        job: AtomicPtr::new(std::ptr::null_mut()),
        inside: AtomicUsize::new(0),
        open: AtomicBool::new(true),
        panicked: AtomicBool::new(false),
        ahead: Ahead::default(),
    };
    // Threads of its own: those of the pool may be in the middle of others' work when they wait for a part of it, and would not
    // come back to it before the team ends.
    std::thread::scope(|scope| {
        let team = &team;
        (1..=members).for_each(|index| drop(scope.spawn(move || team.member(index))));
        /// Sends the members home, however the work ends.
        struct Close<'a>(&'a Team);
        impl Drop for Close<'_> {
            fn drop(&mut self) {
                LED.set(None);
                self.0.open.store(false, Ordering::Release);
            }
        }
        LED.set(Some(team));
        let _close = Close(team);
        work()
    })
}

/// Whether this thread leads a team.
pub(crate) fn is_led() -> bool {
    LED.get().is_some()
}

/// Says what the job behind the next one's beginning will read: members ask the memory for it while they wait.
pub(crate) fn expect(words: &[u32]) {
    if let Some(team) = LED.get() {
        // SAFETY: `with_team` keeps the team while this thread leads it.
        unsafe { (*team).ahead.set(words.as_ptr().addr(), size_of_val(words)) };
    }
}

/// Runs `task` for every index on the team that this thread leads; `false` where it leads none.
pub(crate) fn each(count: usize, least: usize, task: &(dyn Fn(usize) + Sync)) -> bool {
    // No second job inside a job: pieces of work do not hand out work while they lead.
    let Some(team) = LED.take() else { return false };
    struct Led(*const Team);
    impl Drop for Led {
        fn drop(&mut self) {
            LED.set(Some(self.0));
        }
    }
    let led = Led(team);
    // SAFETY: `with_team` keeps the team while this thread leads it.
    unsafe { (*led.0).lead(&Job { count, least, next: AtomicUsize::new(0), task }) };
    true
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::parallel;

    #[test]
    fn every_index_is_done_once_in_each_of_many_small_jobs() {
        let sum = with_team(|| {
            let total = AtomicU64::new(0);
            for job in 0..2_000u64 {
                let own = AtomicU64::new(0);
                parallel::each(37, 1 << 14, |index| {
                    own.fetch_add(index as u64 + 1, Ordering::Relaxed);
                });
                assert_eq!(own.into_inner(), 37 * 38 / 2, "job {job}");
                total.fetch_add(1, Ordering::Relaxed);
            }
            total.into_inner()
        });
        assert_eq!(sum, 2_000);
    }

    #[test]
    fn teams_beside_and_inside_each_other_do_not_wait_for_each_other() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let done = with_team(|| {
                        with_team(|| {
                            let count = AtomicU64::new(0);
                            parallel::each(64, 1 << 14, |_| {
                                count.fetch_add(1, Ordering::Relaxed);
                            });
                            count.into_inner()
                        })
                    });
                    assert_eq!(done, 64);
                });
            }
        });
    }

    #[test]
    #[should_panic(expected = "piece")]
    fn a_panic_in_a_piece_of_work_is_one_of_the_whole() {
        with_team(|| {
            parallel::each(64, 1 << 14, |index| assert!(index != 40, "this piece"));
        });
    }
}
