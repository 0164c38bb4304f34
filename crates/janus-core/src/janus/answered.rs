//! What both heads said of a finding, as one answer.

use janus_data::{Audit, Probability, TokenCounts, Verdict, VerdictLabel, VoteCounts};

use super::{AssessConfig, Assessment, Janus, Prepared, bundled::Opinion, votes::CastVote};
use crate::{
    Result,
    evidence::{self, Found},
    generate::Generated,
    prompt::Analysis,
};

/// What was written of a finding.
#[derive(Debug, Clone)]
pub(super) struct Written {
    /// The analysis that is shown, where one was asked for.
    pub(super) generated: Option<Generated>,
    /// What the verdict, or the votes together, say.
    pub(super) p: Probability,
    /// What each vote says.
    pub(super) cast: Vec<CastVote>,
}

impl Written {
    /// A verdict without an analysis.
    pub(super) fn alone(p: Probability) -> Self {
        Self { generated: None, p, cast: vec![CastVote { p, n_tokens: 0 }] }
    }
}

/// What both heads said of a finding.
pub(super) struct Answered {
    /// Nothing where a head alone was asked.
    pub(super) written: Option<Written>,
    /// Tokens of the verdict's line in front of the verdict.
    pub(super) lead: usize,
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
        let Answered { written, lead, opinion, seconds } = answer;
        let p_written = written.as_ref().map(|written| written.p);
        let cast = written.as_ref().map_or(Vec::new(), |written| written.cast.clone());
        let generated = cast.iter().map(|vote| vote.n_tokens + lead + 1).sum();
        let several = config.votes.most > 1 && config.analysis == Analysis::Full;
        let votes = (several && !cast.is_empty())
            .then(|| VoteCounts { cast: cast.len(), holding: cast.iter().filter(|vote| vote.p.get() >= 0.5).count() });
        let shown = written.and_then(|written| written.generated);
        let finish = shown.as_ref().map(|shown| shown.reason);
        let analysis_tokens = shown.as_ref().map_or([0, 0], |shown| [shown.ids.len(), shown.waits]);
        let analysis = shown.map(|shown| shown.text.trim().to_owned());
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
            votes,
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
            budget: config.budget(),
        };
        Ok(Assessment { verdict, audit, finish, p_written, quotes, analysis_tokens, cast })
    }
}
