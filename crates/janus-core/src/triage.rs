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

/// So many times a batch are read at once, so that rows whose analyses end early have something to go on with.
const WINDOW: usize = 4;

impl Janus {
    /// Answers findings and hands each record to `sink` as soon as it is there, in input order. A finding that cannot be read or
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
            let group: Vec<Line> = lines.by_ref().take(WINDOW * config.batch_size.max(1)).collect();
            if group.is_empty() {
                return Ok(summary);
            }
            let answerable = |line: &&Line| line.finding.is_ok();
            let findings: Vec<_> = group
                .iter()
                .filter_map(|line| line.finding.as_ref().ok())
                .map(|finding| (&finding.pair, &finding.claim))
                .collect();
            // The place of each finding among the lines.
            let places: Vec<usize> =
                group.iter().enumerate().filter(|(_, line)| answerable(line)).map(|(place, _)| place).collect();
            let mut records: Vec<Option<VerdictRecord>> = group
                .iter()
                .map(|line| {
                    let error = line.finding.as_ref().err()?;
                    Some(VerdictRecord::failed(line.id.clone(), None, error_chain(error), line.extra.clone()))
                })
                .collect();
            let mut told = 0;
            let mut tell = |records: &mut [Option<VerdictRecord>]| -> Result<(), E> {
                while let Some(record) = records.get_mut(told).and_then(Option::take) {
                    told += 1;
                    summary.count(&record);
                    sink(record)?;
                }
                Ok(())
            };
            tell(&mut records)?;
            self.assess_each(&findings, config, progress, |index, answer| {
                let line = &group[places[index]];
                let category = findings[index].1.category;
                let (id, extra) = (line.id.clone(), line.extra.clone());
                records[places[index]] = Some(match answer {
                    Ok(answer) => VerdictRecord::answered(id, category, answer.verdict, answer.audit, extra),
                    Err(error) => VerdictRecord::failed(id, Some(category), error_chain(&error), extra),
                });
                tell(&mut records)
            })?;
        }
    }
}
