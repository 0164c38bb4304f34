//! Writing to one slice from several tasks.

use std::{marker::PhantomData, ops::Range};

use rayon::prelude::*;

use crate::team;

/// A slice whose disjoint parts are written by different tasks.
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    length: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: every use promises, by `unsafe`, that no two tasks touch the same element.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), length: slice.len(), owner: PhantomData }
    }

    /// A pointer to element `at`.
    ///
    /// # Panics
    /// When the slice has no `count` elements from there.
    pub(crate) fn at(&self, at: usize, count: usize) -> *mut T {
        assert!(at + count <= self.length, "{at} + {count} lies outside {}", self.length);
        // SAFETY: checked above.
        unsafe { self.start.add(at) }
    }

    /// The elements from `at`.
    ///
    /// # Safety
    /// No other task uses any of them while the result lives.
    #[allow(clippy::mut_from_ref, reason = "that is what this type is for")]
    pub(crate) unsafe fn part(&self, at: usize, count: usize) -> &mut [T] {
        // SAFETY: `at` checks the bounds, the caller promises that the part is not shared.
        unsafe { std::slice::from_raw_parts_mut(self.at(at, count), count) }
    }
}

/// Checks that no two stretches of columns share one: each is written by its own tasks.
///
/// # Panics
/// When two do.
pub(crate) fn assert_apart(stretches: impl Iterator<Item = Range<usize>> + Clone) {
    for (index, one) in stretches.clone().enumerate() {
        let apart = stretches.clone().skip(index + 1).all(|other| one.end <= other.start || other.end <= one.start);
        assert!(apart, "columns {one:?} are written twice");
    }
}

/// Below this many operations a task costs more to hand out than to do: a thread has to be woken for it.
const WORTH_A_TASK: usize = 1 << 17;

/// The same where a team is awake.
const WORTH_A_PIECE: usize = 1 << 13;

/// Runs `task` for every index, in parallel where each has at least `operations` to do that make it worth it.
pub(crate) fn each(count: usize, operations: usize, task: impl Fn(usize) + Sync + Send) {
    let worth = if team::is_led() { WORTH_A_PIECE } else { WORTH_A_TASK };
    if count < 2 || operations * count < worth || team::in_a_job() || rayon::current_num_threads() == 1 {
        (0..count).for_each(task);
    } else {
        let least = (worth / 4 / operations.max(1)).max(1);
        if team::each(count, least, &task) {
            return;
        }
        (0..count).into_par_iter().with_min_len(least).for_each(&task);
    }
}

/// Calls `work(index, row)` for each row of `width` numbers, in parallel; `operations` says how much one row has to do.
///
/// # Panics
/// When `values` is no whole number of rows.
pub fn each_row(values: &mut [f32], width: usize, operations: usize, work: impl Fn(usize, &mut [f32]) + Sync + Send) {
    assert_eq!(values.len() % width, 0, "whole rows of {width}");
    let n_rows = values.len() / width;
    let shared = Shared::new(values);
    each(n_rows, operations, |row| {
        // SAFETY: each task has its own row.
        work(row, unsafe { shared.part(row * width, width) });
    });
}
