//! What both heads said of a finding, as one answer.

use janus_data::{Audit, Probability, TokenCounts, Verdict, VerdictLabel};

use super::{AssessConfig, Assessment, Janus, Prepared, bundled::Opinion};
use crate::{
    Result,
    evidence::{self, Found},
    generate::Generated,
};

/// What both heads said of a finding.
pub(super) struct Answered {
    pub(super) written: Option<Generated>,
    /// Tokens of the verdict's line in front of the verdict.
    pub(super) lead: usize,
    pub(super) p_written: Option<Probability>,
    pub(super) opinion: Option<Opinion>,
    pub(super) seconds: f64,
}

impl Janus {
    /// The verdict, its evidence, and what it was made with.
    pub(super) fn assessment(
        &self,
        prepared: &Prepared<'_>,
        answer: Answered,
        config: &AssessConfig,
    ) -> Result<Assessment> {
        let Answered { written, lead, p_written, opinion, seconds } = answer;
        let generated = written.as_ref().map_or(0, |written| written.n_tokens) + p_written.map_or(0, |_| lead + 1);
        let finish = written.as_ref().map(|written| written.reason);
        let analysis = written.map(|written| written.text.trim().to_owned());
        let called = |p: Probability| {
            if p.get() >= 0.5 { VerdictLabel::TruePositive } else { VerdictLabel::FalsePositive }
        };
        let (label, p_vulnerable, agreement) = match (opinion, p_written) {
            (Some(Opinion { judged, p_vulnerable }), written) => {
                // Against the side that the head leans to, where it leaves the verdict open.
                let leans = match judged.label {
                    VerdictLabel::NeedsReview => called(judged.p),
                    label => label,
                };
                let agreement = written.map(|written| called(written) == leans);
                let label = if agreement == Some(false) { VerdictLabel::NeedsReview } else { judged.label };
                (label, p_vulnerable, agreement)
            }
            (None, Some(p)) => (called(p), p, None),
            (None, None) => unreachable!("without a head the verdict is read"),
        };
        let Found { evidence, quotes } = evidence::find(prepared.pair, prepared.claim, analysis.as_deref());
        let verdict = Verdict {
            label,
            p_vulnerable,
            agreement,
            evidence,
            analysis,
            variant: config.variant,
            tokens: TokenCounts { prompt: prepared.ids.len(), generated, cut_bytes: prepared.cut_bytes },
            seconds,
        };
        let bundle = self.bundle().filter(|_| config.variant.has_head());
        let audit = Audit {
            base: self.digest.clone(),
            adapter: prepared.attached.and_then(|attached| attached.digest.clone()),
            bundle: bundle.map(|bundle| bundle.digest.clone()),
            prompt: prepared.digest.to_string(),
            precision: self.precision().name().to_owned(),
            seed: config.seed,
            analysis: config.analysis.name().to_owned(),
            prior: config.prior,
        };
        Ok(Assessment { verdict, audit, finish, p_written, quotes })
    }
}
