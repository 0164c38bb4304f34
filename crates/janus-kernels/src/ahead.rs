//! What comes next is asked of the memory before it is read: waiting threads of a [team](crate::with_team) do so.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of a line of the caches.
const LINE: usize = 64;

/// Bytes that a waiting thread asks for before it looks again whether there is work.
const STRETCH: usize = 8 * LINE;

/// Bytes of what comes next that are asked for at most: half of a second cache.
const MOST_AHEAD: usize = 512 << 10;

/// Memory that the next piece of work will read, as addresses that nobody reads through: asking for one that is gone does
/// nothing.
#[derive(Default)]
pub(crate) struct Ahead {
    /// Where each part begins, and its bytes.
    parts: [[AtomicUsize; 2]; MOST_PARTS],
    /// Changes with every memory.
    turn: AtomicUsize,
}

/// What one thread has asked for.
#[derive(Default)]
pub(crate) struct Asked {
    turn: usize,
    bytes: usize,
}

impl Ahead {
    pub(crate) fn set(&self, parts: &Parts) {
        for (place, part) in self.parts.iter().zip(parts) {
            place.iter().zip(part).for_each(|(place, number)| place.store(*number, Ordering::Relaxed));
        }
        self.turn.fetch_add(1, Ordering::Release);
    }

    /// Whether something else is ahead than what a thread has asked for.
    pub(crate) fn has_more(&self, asked: &Asked) -> bool {
        self.turn.load(Ordering::Relaxed) != asked.turn
    }

    /// Asks for some more bytes of the share that a thread will likely have; `false` where all are asked for.
    pub(crate) fn ask(&self, thread: usize, threads: usize, asked: &mut Asked) -> bool {
        let turn = self.turn.load(Ordering::Acquire);
        if asked.turn != turn {
            *asked = Asked { turn, bytes: 0 };
        }
        let parts = self.parts.each_ref().map(|part| part.each_ref().map(|number| number.load(Ordering::Relaxed)));
        let share = parts.iter().map(|[_, bytes]| bytes).sum::<usize>() / threads;
        let end = (asked.bytes + STRETCH).min(share).min(MOST_AHEAD);
        for byte in (asked.bytes..end).step_by(LINE) {
            let mut at = thread * share + byte;
            for [first, bytes] in parts {
                if at < bytes {
                    prefetch(first.wrapping_add(at));
                    break;
                }
                at -= bytes;
            }
        }
        let more = end > asked.bytes;
        asked.bytes = end;
        more
    }
}

/// The memory that one piece of work reads, in its order: addresses and bytes.
pub(crate) type Parts = [[usize; 2]; MOST_PARTS];

/// Weights of one input: queries, keys and values.
const MOST_PARTS: usize = 3;

pub(crate) fn parts_of<const N: usize>(words: [&[u32]; N]) -> Parts {
    const { assert!(N <= MOST_PARTS, "a part would not be asked for") };
    let mut parts = Parts::default();
    parts.iter_mut().zip(words).for_each(|(part, words)| *part = [words.as_ptr().addr(), size_of_val(words)]);
    parts
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_asks_for_its_share_of_what_is_ahead_once() {
        let (ahead, mut asked) = (Ahead::default(), Asked::default());
        assert!(!ahead.ask(1, 2, &mut asked), "nothing is ahead yet");
        let words = vec![0u32; 10 * STRETCH];
        let parts = parts_of([&words[..300], &words[300..]]);
        ahead.set(&parts);
        assert!(ahead.has_more(&asked));
        let times = (0..).take_while(|_| ahead.ask(1, 2, &mut asked)).count();
        assert_eq!((times, asked.bytes), (10 * 4 / 2, size_of_val(&words[..]) / 2));
        assert!(!ahead.has_more(&asked));
    }
}
