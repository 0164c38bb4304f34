//! Second attempts: an analysis, a reflection on it, and another analysis with the reflection in the prompt.

use std::time::Instant;

use janus_core::{Adapter, AssessConfig, Janus, Progress, TokenIds, WriteConfig};
use janus_data::Sample;
use janus_http::VulnCategory;

use crate::{
    Answer, Cost, Error, Prediction, Result, WrittenAnalysis,
    benchmark::{Evaluated, peak_mb},
};

/// The most tokens of a reflection.
const REFLECTION_TOKENS: usize = 64;

/// Asks a model twice for what `done` does not hold yet, with its own reflection in between: the second answer is what is
/// kept. Nothing tells it whether the first one was right.
///
/// # Errors
/// When there is no adapter for a category, the device fails, `progress` ends the work, or `sink` fails.
pub(crate) fn second_attempts(
    janus: &Janus,
    system: &str,
    config: &AssessConfig,
    evaluated: &Evaluated<'_>,
    done: &[Prediction],
    progress: &mut dyn Progress,
    mut sink: impl FnMut(Answer) -> Result<()>,
) -> Result<()> {
    let missing = evaluated.missing(system, done);
    for category in VulnCategory::ALL {
        let own: Vec<usize> =
            missing.iter().copied().filter(|at| evaluated.samples[*at].claim.category == category).collect();
        let adapter = match config.adapters.get(&category) {
            Some(name) if config.variant.is_fine_tuned() => janus.adapter(name),
            _ => None,
        };
        for batch in own.chunks(config.batch_size.max(1)) {
            let start = Instant::now();
            let samples: Vec<&Sample> = batch.iter().map(|at| &evaluated.samples[*at]).collect();
            let answers =
                tried_twice(janus, &samples, adapter, config, &*progress).map_err(|source| Error::Model { source })?;
            let seconds = start.elapsed().as_secs_f64() / batch.len() as f64;
            for ((at, sample), twice) in batch.iter().zip(samples).zip(answers) {
                let second = &twice.second;
                let prediction = evaluated.scored(system, *at, second.p.get());
                let analysis = WrittenAnalysis {
                    system: system.to_owned(),
                    part: evaluated.part.to_owned(),
                    id: sample.id.clone(),
                    category,
                    ended: second.ended,
                    quotes: second.quotes,
                    called: Some(second.holds()),
                    read_as: evaluated.reader.map(|reader| reader.read(&second.analysis)),
                    text: second.analysis.clone(),
                };
                let cost = Cost {
                    system: system.to_owned(),
                    id: sample.id.clone(),
                    prompt_tokens: twice.read,
                    generated_tokens: twice.written,
                    seconds,
                    peak_mb: peak_mb(),
                };
                sink(Answer { prediction, cost: Some(cost), analysis: Some(analysis) })?;
                progress.answered();
            }
        }
    }
    Ok(())
}

struct Twice {
    second: janus_core::Attempt,
    /// Tokens of the three prompts.
    read: usize,
    /// Tokens of the three answers.
    written: usize,
}

fn tried_twice(
    janus: &Janus,
    samples: &[&Sample],
    adapter: Option<&Adapter>,
    config: &AssessConfig,
    progress: &dyn Progress,
) -> janus_core::Result<Vec<Twice>> {
    let findings: Vec<_> = samples.iter().map(|sample| (&sample.pair, &sample.claim)).collect();
    let seeds = vec![config.seed; samples.len()];
    let analysis = WriteConfig { sampling: config.sampling, max_tokens: config.max_tokens };
    let prompts = |of: &dyn Fn(usize) -> janus_core::Result<TokenIds>| -> janus_core::Result<Vec<TokenIds>> {
        (0..samples.len()).map(of).collect()
    };
    let asked = prompts(&|at| janus.prompt(&samples[at].pair, &samples[at].claim, config))?;
    let first = janus.attempts(&findings, &asked, &seeds, adapter, analysis, progress)?;
    let reflect = prompts(&|at| {
        janus.reflection_prompt(&samples[at].pair, &samples[at].claim, config.variant, &first[at], None)
    })?;
    let write = WriteConfig { max_tokens: REFLECTION_TOKENS, ..analysis };
    let reflections = janus.write(&reflect, &seeds, adapter, write, progress)?;
    let again = prompts(&|at| {
        janus.second_prompt(&samples[at].pair, &samples[at].claim, config.variant, reflections[at].text.trim())
    })?;
    let second = janus.attempts(&findings, &again, &seeds, adapter, analysis, progress)?;
    let twice = second.into_iter().enumerate().map(|(at, second)| Twice {
        read: asked[at].len() + reflect[at].len() + again[at].len(),
        written: first[at].n_tokens + reflections[at].n_tokens + second.n_tokens,
        second,
    });
    Ok(twice.collect())
}
