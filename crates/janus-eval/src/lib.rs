//! The ruler: metrics, intervals, controls and the tables made of them.
//!
//! 1. [`benchmark`] asks a system for a [`Prediction`] on every labelled sample; predictions are stored and are the
//!    only thing that tables are made of.
//! 2. [`Confusion`] and [`metrics`] turn predictions into numbers; an undefined number is `None` and prints so.
//! 3. [`interval`] says how sure each number is: Wilson for rates, a bootstrap over lineages for the rest, exact tests
//!    between two systems.
//! 4. [`Control`] is what can be reached without a language model.
//! 5. [`report`] writes tables, and from result folders the [`Report`] that people read; the same predictions give the
//!    same bytes.
//!
//! What this crate deliberately does not do: train, open databases, or touch the network.
//!
//! ```
//! use janus_eval::{Confusion, interval};
//!
//! let confusion: Confusion = [(true, true), (true, false), (false, false)].into_iter().collect();
//! assert_eq!(confusion.recall().value(), Some(0.5));
//! assert_eq!(confusion.precision().value(), Some(1.0));
//! let interval = interval::wilson(confusion.precision()).expect("one trial");
//! assert!(interval.low < 0.3, "one trial proves little");
//! ```

mod analysis;
pub mod benchmark;
mod chart;
mod confusion;
mod control;
mod describe;
mod error;
mod familiar;
mod head;
pub mod interval;
pub mod metrics;
pub mod report;
mod scaling;
mod second;
mod study;
mod trials;

pub use analysis::{Reader, WrittenAnalysis};
pub use benchmark::{Answer, Cost, Prediction};
pub use chart::{Chart, Curve, Curves, Dot, Histogram, IntervalRow, Intervals, Plane};
pub use confusion::{Confusion, Rate};
pub use control::{Control, Example, NgramLogistic, NgramText};
pub use describe::describe;
pub use error::{Error, Result};
pub use familiar::Familiar;
pub use report::{Report, ResultFolder, Results, TrainingRun};
pub use scaling::{Knob, ScalingStudy, Spent};
pub use study::{GeneralModel, LabelledSet, NamedBundle, Study, StudyConfig};
pub use trials::{TrainingKnob, Trial, TrialAnswer, TrialLog};
