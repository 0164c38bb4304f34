//! Findings in, records out, in input order.

use std::fmt;

use janus_data::{VerdictLabel, VerdictRecord, error_chain, jsonl::Line};

use crate::{AssessConfig, Error, Janus, Progress};

/// How many findings got which answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TriageSummary {
    /// Claims that hold.
    pub true_positive: usize,
    /// Claims that do not.
    pub false_positive: usize,
    /// Claims that a person must look at.
    pub needs_review: usize,
    /// Findings that could not be answered.
    pub failed: usize,
}

impl fmt::Display for TriageSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { true_positive, false_positive, needs_review, failed } = self;
        write!(
            f,
            "{true_positive} true positive, {false_positive} false positive, {needs_review} to review, {failed} failed"
        )
    }
}

impl TriageSummary {
    fn count(&mut self, record: &VerdictRecord) {
        match record.verdict().map(|verdict| verdict.label) {
            Some(VerdictLabel::TruePositive) => self.true_positive += 1,
            Some(VerdictLabel::FalsePositive) => self.false_positive += 1,
            Some(VerdictLabel::NeedsReview) => self.needs_review += 1,
            None => self.failed += 1,
        }
    }
}

impl Janus {
    /// Answers findings in groups and hands each record to `sink`, in input order. A finding that cannot be read or
    /// answered gives a record with its error, and the rest go on.
    ///
    /// # Errors
    /// When a setting is outside its range, the device fails, `progress` ends the work, or `sink` fails.
    pub fn triage<E: From<Error>>(
        &self,
        lines: impl IntoIterator<Item = Line>,
        config: &AssessConfig,
        progress: &mut dyn Progress,
        mut sink: impl FnMut(VerdictRecord) -> Result<(), E>,
    ) -> Result<TriageSummary, E> {
        let mut summary = TriageSummary::default();
        let mut lines = lines.into_iter();
        loop {
            let group: Vec<Line> = lines.by_ref().take(config.batch_size.max(1)).collect();
            if group.is_empty() {
                return Ok(summary);
            }
            let findings: Vec<_> = group
                .iter()
                .filter_map(|line| line.finding.as_ref().ok())
                .map(|finding| (&finding.pair, &finding.claim))
                .collect();
            let mut answers = self.assess_batch(&findings, config, progress)?.into_iter();
            for line in group {
                let record = match line.finding {
                    Err(error) => VerdictRecord::failed(line.id, None, error_chain(&error), line.extra),
                    Ok(finding) => {
                        let category = finding.claim.category;
                        match answers.next().expect("one answer for each finding") {
                            Ok(answer) => {
                                VerdictRecord::answered(line.id, category, answer.verdict, answer.audit, line.extra)
                            }
                            Err(error) => {
                                VerdictRecord::failed(line.id, Some(category), error_chain(&error), line.extra)
                            }
                        }
                    }
                };
                summary.count(&record);
                sink(record)?;
            }
        }
    }
}
