//! What a reflection is worth.
//!
//! In a task of two classes "you were wrong" gives the answer away, and a reflection that only says "flip" would earn
//! everything. So nothing tells whether the first attempt was right, right ones are among those that are reflected on, a
//! second attempt must show its evidence, the same reflection must leave the twin right, and one that names the answer
//! earns nothing.

use janus_core::Attempt;
use serde::{Deserialize, Serialize};

/// How reflections are rewarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RewardScheme {
    /// By what they change, where evidence, twin and wording allow it.
    #[default]
    FlipProof,
    /// 1 where the second attempt is right, else 0: the recipe of the study that Janus rebuilds. It reflects on failed
    /// attempts alone, and the model is told the right answer.
    Naive,
}

/// What came of one reflection.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome<'a> {
    /// The reflection.
    pub reflection: &'a str,
    /// Tokens that it has, and the most that it could have.
    pub tokens: [usize; 2],
    /// Whether the first attempt was right.
    pub first_right: bool,
    /// The second attempt, and whether it is right.
    pub second: (&'a Attempt, bool),
    /// Whether the attempt at the twin with the same reflection is right; nothing where there is no twin.
    pub twin_right: Option<bool>,
}

/// A reward and its parts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reward {
    /// What counts.
    pub total: f32,
    /// Wrong to right 1, right to right [`KEPT`], wrong to wrong 0, right to wrong -1.
    pub change: f32,
    /// Whether the second attempt is right.
    pub right: bool,
    /// Whether the second attempt ends, quotes the pair, and quotes only what is there.
    pub evidence: bool,
    /// Whether the twin is right with it; nothing where there is no twin.
    pub twin: Option<bool>,
    /// Whether the reflection names the answer.
    pub leak: bool,
    /// What its length takes off.
    pub overlong: f32,
}

/// For an attempt that was right and stays so: less than a repaired one, for it asks for nothing.
pub const KEPT: f32 = 0.2;
/// For a second attempt that is right at the twin's cost.
const TWIN_BROKEN: f32 = -0.5;
/// The most that length takes off, reached at the longest reflection; nothing below half of that (after DAPO's soft
/// overlong punishment, arXiv 2503.14476, section 3.4).
const OVERLONG: f32 = 0.3;

/// The reward of a reflection.
pub fn reward(outcome: &Outcome<'_>, scheme: RewardScheme) -> Reward {
    let (second, right) = outcome.second;
    let change = match (outcome.first_right, right) {
        (false, true) => 1.0,
        (true, true) => KEPT,
        (false, false) => 0.0,
        (true, false) => -1.0,
    };
    let (evidence, leak) = (second.is_sound(), names_the_answer(outcome.reflection));
    let overlong = overlong(outcome.tokens);
    let total = match scheme {
        RewardScheme::Naive => f32::from(u8::from(right)),
        RewardScheme::FlipProof => {
            let mut total = change;
            if total > 0.0 && !evidence {
                total = 0.0;
            }
            if outcome.twin_right == Some(false) {
                total = total.min(TWIN_BROKEN);
            }
            if leak {
                total = total.min(0.0);
            }
            total - overlong
        }
    };
    Reward { total, change, right, evidence, twin: outcome.twin_right, leak, overlong }
}

fn overlong([tokens, most]: [usize; 2]) -> f32 {
    let free = most / 2;
    let beyond = tokens.saturating_sub(free) as f32 / (most - free).max(1) as f32;
    OVERLONG * beyond.min(1.0)
}

/// Words by which a reflection gives the answer away instead of a reason. They are compared as words, in lower case.
const ANSWERS: [&str; 34] = [
    "verdict",
    "true positive",
    "false positive",
    "true negative",
    "false negative",
    "false alarm",
    "claim holds",
    "claim does not hold",
    "claim doesn t hold",
    "claim is true",
    "claim is false",
    "claim is right",
    "claim is wrong",
    "claim is not",
    "claim is correct",
    "claim is incorrect",
    "scanner is right",
    "scanner is wrong",
    "finding is real",
    "finding is not real",
    "finding holds",
    "is vulnerable",
    "is not vulnerable",
    "is exploitable",
    "is not exploitable",
    "not a vulnerability",
    "is a vulnerability",
    "flip",
    "the opposite",
    "answer is",
    "should be fixed",
    "would close it",
    "change the answer",
    "change my answer",
];

/// Whether a reflection says what the answer is, or that it should change.
pub fn names_the_answer(reflection: &str) -> bool {
    let lower = reflection.to_lowercase();
    let words: Vec<&str> =
        lower.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let text = format!(" {} ", words.join(" "));
    ANSWERS.iter().any(|answer| text.contains(&format!(" {answer} ")))
}

#[cfg(test)]
mod tests {
    use janus_data::Probability;

    use super::*;

    fn attempt(sound: bool) -> Attempt {
        Attempt {
            analysis: String::new(),
            ended: true,
            p: Probability::new(0.9).expect("a probability"),
            quotes: [usize::from(sound), 1],
            n_tokens: 9,
        }
    }

    fn of(first_right: bool, right: bool, sound: bool, twin: Option<bool>, reflection: &str) -> f32 {
        let attempt = attempt(sound);
        let outcome =
            Outcome { reflection, tokens: [10, 64], first_right, second: (&attempt, right), twin_right: twin };
        reward(&outcome, RewardScheme::FlipProof).total
    }

    #[test]
    fn a_reward_is_for_what_changes_and_only_with_evidence_a_whole_twin_and_no_answer_given_away() {
        let honest = "Look at \"&lt;b\" again: it is text.";
        assert_eq!(of(false, true, true, Some(true), honest), 1.0);
        assert_eq!(of(true, true, true, None, honest), KEPT);
        assert_eq!(of(false, false, true, Some(true), honest), 0.0);
        assert_eq!(of(true, false, true, Some(true), honest), -1.0);
        assert_eq!(of(false, true, false, Some(true), honest), 0.0, "no evidence");
        assert_eq!(of(false, true, true, Some(false), honest), TWIN_BROKEN);
        assert_eq!(of(false, true, true, Some(true), "It is a False-Positive."), 0.0);
        assert_eq!(
            of(true, false, true, Some(true), "Verdict: 0"),
            -1.0,
            "naming the answer does not save from a loss"
        );
    }

    #[test]
    fn flipping_every_answer_earns_less_than_nothing_with_ours_and_everything_with_the_naive_reward() {
        // A flip repairs a wrong attempt and breaks its twin; it breaks a right one.
        let ours = (of(false, true, true, Some(false), "") + of(true, false, true, Some(true), "")) / 2.0;
        assert!(ours < 0.0, "{ours}");
        let attempt = attempt(true);
        let outcome = Outcome {
            reflection: "flip",
            tokens: [1, 64],
            first_right: false,
            second: (&attempt, true),
            twin_right: Some(false),
        };
        assert_eq!(reward(&outcome, RewardScheme::Naive).total, 1.0);
    }

    #[test]
    fn answers_are_found_as_words_and_length_costs_from_half_of_the_most_on() {
        assert!(names_the_answer("So, the claim does NOT hold.") && names_the_answer("This is a false-positive"));
        assert!(!names_the_answer("The quote is escaped, so the value stays inside the attribute. Flipping bits."));
        assert_eq!([overlong([32, 64]), overlong([48, 64]), overlong([64, 64])], [0.0, OVERLONG / 2.0, OVERLONG]);
    }
}
