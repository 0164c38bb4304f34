//! Threads that stay awake for a while: a pass that writes a token asks for some two hundred small pieces of parallel work,
//! and waking a sleeping thread costs more than most of them take.
//!
//! While [`with_team`] runs its work, threads of a team wait in a loop for the pieces that it hands out. Nothing
//! about results depends on it: who does which piece never did. While they wait they ask the memory for what the next piece
//! will read, where the leader has said what that is ([`expect`]): writing a token is a matter of reading weights, and the
//! memory would have nothing to do.

use std::{
    ops::Range,
    sync::{
        Mutex, TryLockError,
        atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::ahead::{Ahead, Asked, Parts, parts_of};

/// Rounds of waiting before a thread lets others run.
const PATIENCE: u32 = 4_000;

/// Rounds before it sleeps: some milliseconds.
const MORE_PATIENCE: u32 = 3 * PATIENCE;

/// How long it sleeps.
const NAP: Duration = Duration::from_micros(100);

/// Lines of its own for what one thread writes and others look at: where two processors share no cache, each look at a line
/// that was written costs as much as reading memory. Two lines, for processors fetch them in pairs.
#[repr(align(128))]
struct Apart<T>(T);

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
    /// One for each thread, the leader's first.
    seats: Vec<Apart<Seat>>,
    /// Indices that members have done, since the team began.
    done: Apart<AtomicUsize>,
    panicked: AtomicBool,
    ahead: Apart<Ahead>,
}

/// What one thread has to do of a piece of work: neighbouring indices, so that it reads memory in one stretch. It takes them
/// from the front, most of them at once; whoever has nothing left takes from the back of others'.
#[derive(Default)]
struct Seat {
    left: AtomicU64,
    least: AtomicUsize,
    /// The task is lent: only who has taken an index of this piece may look there.
    task: AtomicPtr<&'static Task<'static>>,
}

type Task<'a> = dyn Fn(usize) + Sync + 'a;

/// The number of a piece of work, and the indices that nobody has taken: as one word, so that nothing of another piece is taken.
#[derive(Clone, Copy)]
struct Left {
    piece: u32,
    first: u16,
    end: u16,
}

/// In place of a piece: the team ends.
const CLOSED: u32 = u32::MAX;

/// Indices that a piece can have.
const MOST: usize = u16::MAX as usize;

impl Left {
    fn word(self) -> u64 {
        u64::from(self.piece) << 32 | u64::from(self.first) << 16 | u64::from(self.end)
    }

    fn of(word: u64) -> Self {
        Self { piece: (word >> 32) as u32, first: (word >> 16) as u16, end: word as u16 }
    }

    fn count(self) -> u16 {
        self.end - self.first
    }
}

impl Seat {
    /// Takes indices of a piece: of all that are left here as many as `how_many` says of `front`, or of the back.
    fn take(&self, piece: u32, front: bool, how_many: impl Fn(u16) -> u16) -> Option<Range<usize>> {
        let mut word = self.left.load(Ordering::Relaxed);
        loop {
            let left = Left::of(word);
            if left.piece != piece || left.count() == 0 {
                return None;
            }
            let count = how_many(left.count()).clamp(1, left.count());
            let (rest, taken) = if front {
                (Left { first: left.first + count, ..left }, left.first..left.first + count)
            } else {
                (Left { end: left.end - count, ..left }, left.end - count..left.end)
            };
            match self.left.compare_exchange_weak(word, rest.word(), Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(usize::from(taken.start)..usize::from(taken.end)),
                Err(now) => word = now,
            }
        }
    }
}

thread_local! {
    /// The team that this thread leads.
    static LED: std::cell::Cell<Option<*const Team>> = const { std::cell::Cell::new(None) };
    /// What [`expect_behind`] said.
    static BEHIND: std::cell::Cell<Option<Parts>> = const { std::cell::Cell::new(None) };
}

/// Only one team at a time: two would have more threads than there are processors, and each waits awake.
static LEADING: Mutex<()> = Mutex::new(());

/// Waits until `done`, lets others run where that takes long, and sleeps where it takes so long that whoever is waited for must
/// be doing something else.
fn wait_until(done: impl Fn() -> bool) {
    let mut rounds = 0;
    while !done() {
        rounds = (rounds + 1).min(MORE_PATIENCE);
        match rounds {
            ..PATIENCE => std::hint::spin_loop(),
            PATIENCE..MORE_PATIENCE => std::thread::yield_now(),
            _ => std::thread::sleep(NAP),
        }
    }
}

impl Team {
    fn new(threads: usize) -> Self {
        Self {
            seats: (0..threads).map(|_| Apart(Seat::default())).collect(),
            done: Apart(AtomicUsize::new(0)),
            panicked: AtomicBool::new(false),
            ahead: Apart(Ahead::default()),
        }
    }

    fn threads(&self) -> usize {
        self.seats.len()
    }

    /// One of the threads besides the leader, from 1 on.
    fn member(&self, index: usize) {
        let piece = || Left::of(self.seats[index].0.left.load(Ordering::Acquire)).piece;
        let (mut seen, mut asked) = (0, Asked::default());
        loop {
            while piece() == seen && self.ahead.0.ask(index, self.threads(), &mut asked) {}
            wait_until(|| piece() != seen || self.ahead.0.has_more(&asked));
            if piece() == seen {
                continue;
            }
            seen = piece();
            if seen == CLOSED {
                return;
            }
            /// Says how much was done, however it ends.
            struct Count<'a>(&'a Team, usize);
            impl Drop for Count<'_> {
                fn drop(&mut self) {
                    if std::thread::panicking() {
                        self.0.panicked.store(true, Ordering::Relaxed);
                    }
                    if self.1 > 0 {
                        self.0.done.0.fetch_add(self.1, Ordering::Release);
                    }
                }
            }
            let mut count = Count(self, 0);
            self.take_part(index, seen, &mut count.1);
        }
    }

    /// Takes indices of a piece and does them, until it finds none left; `taken` counts them.
    fn take_part(&self, thread: usize, piece: u32, taken: &mut usize) {
        let _in_a_job = InAJob::enter();
        let own = &self.seats[thread].0;
        let least = own.least.load(Ordering::Acquire).min(MOST) as u16;
        let task = own.task.load(Ordering::Acquire);
        let from_others = || {
            let others = (1..self.threads()).map(|at| &self.seats[(thread + at) % self.threads()].0);
            others.filter_map(|seat| seat.take(piece, false, |left| (left / 2).max(least))).next()
        };
        while let Some(indices) = own.take(piece, true, |left| (left / 4 * 3).max(least)).or_else(from_others) {
            *taken += indices.len();
            // SAFETY: the leader waits for everything that was taken. What was read above is of this piece: of one whose task
            // is not there any more nothing is left that could have been taken, unless a thread stood still between looking and
            // taking for all of four thousand million pieces.
            indices.for_each(unsafe { *task });
        }
    }

    /// Hands out a piece of work, does its share, and waits for the others.
    fn lead(&self, count: usize, least: usize, task: &Task<'_>) {
        let before = self.done.0.load(Ordering::Relaxed);
        let last = Left::of(self.seats[0].0.left.load(Ordering::Relaxed)).piece;
        let piece = (last + 1) % CLOSED;
        /// The task is lent until all that was taken of it is done, also where the leader's own share panics.
        struct Wait<'a> {
            team: &'a Team,
            before: usize,
            piece: u32,
            count: usize,
            own: usize,
        }
        impl Drop for Wait<'_> {
            fn drop(&mut self) {
                let Self { team, piece, .. } = *self;
                let mut taken = self.count;
                if std::thread::panicking() {
                    let seats = team.seats.iter();
                    taken -= seats
                        .filter_map(|seat| seat.0.take(piece, true, |left| left))
                        .map(|left| left.len())
                        .sum::<usize>();
                }
                let theirs = taken - self.own;
                let done = || team.done.0.load(Ordering::Acquire).wrapping_sub(self.before) == theirs;
                let mut asked = Asked::default();
                while !done() && team.ahead.0.ask(0, team.threads(), &mut asked) {}
                wait_until(done);
            }
        }
        let mut wait = Wait { team: self, before, piece, count, own: 0 };
        let share = |thread: usize| (thread * count / self.threads()) as u16;
        for (thread, Apart(seat)) in self.seats.iter().enumerate().rev() {
            seat.least.store(least, Ordering::Release);
            seat.task.store(std::ptr::from_ref(&task).cast_mut().cast(), Ordering::Release);
            let left = Left { piece, first: share(thread), end: share(thread + 1) };
            seat.left.store(left.word(), Ordering::Release);
        }
        self.take_part(0, piece, &mut wait.own);
        drop(wait);
        assert!(!self.panicked.load(Ordering::Relaxed), "a piece of parallel work panicked");
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
    lead_team(members, work)
}

/// Runs `work` as the leader of a team with so many members.
fn lead_team<R>(members: usize, work: impl FnOnce() -> R) -> R {
    let team = Team::new(members + 1);
    // Threads of its own: those of the pool may be in the middle of others' work when they wait for a part of it, and would not
    // come back to it before the team ends.
    std::thread::scope(|scope| {
        let team = &team;
        for index in 1..=members {
            // Where the system has no thread left, the others do its share.
            let _ = std::thread::Builder::new().spawn_scoped(scope, move || team.member(index));
        }
        /// Sends the members home, however the work ends.
        struct Close<'a>(&'a Team);
        impl Drop for Close<'_> {
            fn drop(&mut self) {
                LED.set(None);
                BEHIND.set(None);
                let closed = Left { piece: CLOSED, first: 0, end: 0 }.word();
                self.0.seats.iter().for_each(|seat| seat.0.left.store(closed, Ordering::Release));
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

/// Says what the next piece of work will read, in its order: threads ask the memory for it while they wait.
pub(crate) fn expect<const N: usize>(words: [&[u32]; N]) {
    if let Some(team) = LED.get() {
        // SAFETY: `lead_team` keeps the team while this thread leads it.
        unsafe { (*team).ahead.0.set(&parts_of(words)) };
    }
}

/// Says what will be read behind the next product, or attention: threads that are done with that ask for it.
pub(crate) fn expect_behind<const N: usize>(words: [&[u32]; N]) {
    if is_led() {
        BEHIND.set(Some(parts_of(words)));
    }
}

/// What was expected is read now, by the next piece of work: what is behind it is ahead.
pub(crate) fn reached() {
    if let Some(team) = LED.get() {
        // SAFETY: `lead_team` keeps the team while this thread leads it.
        unsafe { (*team).ahead.0.set(&BEHIND.take().unwrap_or_default()) };
    }
}

/// Runs `task` for every index on the team that this thread leads; `false` where it leads none.
pub(crate) fn each(count: usize, least: usize, task: &(dyn Fn(usize) + Sync)) -> bool {
    if count > MOST {
        return false;
    }
    // Work inside the piece finds no team to hand out to.
    let Some(team) = LED.take() else { return false };
    struct Led(*const Team);
    impl Drop for Led {
        fn drop(&mut self) {
            LED.set(Some(self.0));
        }
    }
    let led = Led(team);
    // SAFETY: `lead_team` keeps the team while this thread leads it.
    let team = unsafe { &*led.0 };
    team.lead(count, least, task);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parallel;

    #[test]
    fn every_index_is_done_once_in_each_of_many_small_jobs() {
        let sum = lead_team(1, || {
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
    fn more_threads_than_processors_do_every_index_once_however_long_each_takes() {
        for members in [1, 2, 4, 9] {
            lead_team(members, || {
                for count in [1, 2, 7, 100, 1_000] {
                    let done: Vec<AtomicU64> = (0..count).map(|_| AtomicU64::new(0)).collect();
                    let handed_out = each(count, 1, &|index| {
                        // The first ones take long, so that the others are done before them and take some away.
                        (0..if index < count / 4 { 2_000 } else { 1 }).for_each(|_| std::hint::spin_loop());
                        done[index].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(
                        handed_out && done.iter().all(|done| done.load(Ordering::Relaxed) == 1),
                        "{members} {count}"
                    );
                }
                assert!(!each(MOST + 1, 1, &|_| ()), "more than a seat can count are not for a team");
            });
        }
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
    fn a_panic_in_a_piece_of_work_is_one_of_the_whole_and_the_others_end_before_it() {
        for bad in [0, 1] {
            let [begun, ended] = [false, false].map(AtomicBool::new);
            let whole = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                lead_team(1, || {
                    each(2, 1, &|index| {
                        if index != bad {
                            begun.store(true, Ordering::SeqCst);
                            std::thread::sleep(20 * NAP);
                            ended.store(true, Ordering::SeqCst);
                        } else {
                            wait_until(|| begun.load(Ordering::SeqCst));
                            panic!("a bad index");
                        }
                    })
                })
            }));
            assert!(whole.is_err() && ended.into_inner(), "index {bad}");
        }
        // Nothing of it is left behind.
        every_index_is_done_once_in_each_of_many_small_jobs();
    }

    #[test]
    fn members_that_have_fallen_asleep_or_never_began_leave_nothing_undone() {
        let count_of = |team: &Team, count: usize| {
            let done = AtomicUsize::new(0);
            team.lead(count, 1, &|_| {
                done.fetch_add(1, Ordering::Relaxed);
            });
            done.into_inner()
        };
        let alone = Team::new(3);
        for count in [0, 1, 2, 1_000, MOST] {
            assert_eq!(count_of(&alone, count), count);
        }
        lead_team(2, || {
            std::thread::sleep(500 * NAP);
            let done = AtomicUsize::new(0);
            let count = &|_| _ = done.fetch_add(1, Ordering::Relaxed);
            assert!(each(1_000, 1, count));
            assert_eq!(done.into_inner(), 1_000);
        });
    }
}
