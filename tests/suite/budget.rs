//! How much is written, and by how many votes: to the token, and whatever stands beside it.

use std::{ops::ControlFlow, path::Path};

use janus_core::{
    AssessConfig, Claim, Effort, GenerateConfig, HttpPair, Janus, JanusConfig, Precision, Sampling, SecondLook,
    Session, TokenIds, VoteRule, Votes, VulnCategory,
};
use janus_eval::metrics;

fn tiny(folder: &Path, precision: Precision) -> Janus {
    janus_core::write_tiny_model(folder, 5).expect("written");
    Janus::load(folder, JanusConfig { precision, ..JanusConfig::default() }).expect("loads")
}

fn pair(value: &str) -> HttpPair {
    let request = format!("GET /?q={value} HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let response = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>{value}</p>");
    HttpPair::parse(request, response).expect("valid")
}

#[test]
fn forced_budgets_are_kept_to_the_token_and_no_row_sees_another() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for precision in [Precision::F32, Precision::Auto] {
        let janus = tiny(folder.path(), precision);
        let prompts = ["one", "another text", "a third, longer than both"]
            .map(|text| janus.tokenizer().encode_template(text).expect("encodes"));
        let (mut realised, mut waits) = (Vec::new(), 0);
        for (min_tokens, max_tokens) in [(0, 24), (5, 24), (24, 24), (17, 20)] {
            let config = GenerateConfig {
                sampling: Sampling { temperature: 1.5, ..Sampling::default() },
                max_tokens,
                min_tokens,
                wait: janus.tokenizer().encode_continuation("\nHmm").expect("encodes"),
                // Ends that a random model writes often.
                stop_ids: (0..40).collect(),
                stop_texts: vec!["e".to_owned(), "a".to_owned()],
                logprobs: false,
            };
            let write = |rows: &[usize]| {
                let mut session = Session::new(janus.model(), prompts.to_vec(), Vec::new(), 40, &[]).expect("fits");
                let seeds: Vec<u64> = rows.iter().map(|row| 7 + *row as u64).collect();
                let on_text = &mut |_: usize, _: &str| ControlFlow::Continue(());
                let written = session.generate(rows, janus.tokenizer(), &config, &seeds, on_text).expect("writes");
                let logits = session.logits_behind(rows, &TokenIds(vec![50])).expect("fits");
                written.into_iter().zip(logits).collect::<Vec<_>>()
            };
            let together = write(&[0, 1, 2]);
            for (row, (written, logits)) in together.iter().enumerate() {
                assert_eq!(
                    metrics::control(&[written.ids.len() as f64], min_tokens as f64, max_tokens as f64),
                    Some(1.0)
                );
                assert!(!written.text.contains(['e', 'a']) || written.waits > 0, "{written:?}");
                realised.push(written.ids.len());
                waits += written.waits;
                let alone = write(&[row]).remove(0);
                assert_eq!((&alone.0, &alone.1), (written, logits), "row {row} of {min_tokens} to {max_tokens}");
            }
            assert_eq!(write(&[0, 2]), [together[0].clone(), together[2].clone()], "a gap between rows");
        }
        // An end at once, and no room at all, leave the prompt as it was read.
        for (stop_ids, max_tokens) in
            [((0..janus.model().decoder.config().vocab_size as u32).collect(), 4), (Vec::new(), 0)]
        {
            let config = GenerateConfig { max_tokens, stop_ids, ..GenerateConfig::default() };
            let mut session = Session::new(janus.model(), prompts.to_vec(), Vec::new(), 9, &[]).expect("fits");
            let on_text = &mut |_: usize, _: &str| ControlFlow::Continue(());
            let written = session.generate(&[0, 1, 2], janus.tokenizer(), &config, &[1; 3], on_text).expect("writes");
            assert!(written.iter().all(|written| written.ids.is_empty() && written.n_tokens == 0));
            session.logits_behind(&[0, 1, 2], &TokenIds(vec![50])).expect("fits");
        }
        let wait = janus.tokenizer().encode_continuation("\n").expect("encodes");
        let config = GenerateConfig { min_tokens: 2, max_tokens: 4, wait, ..GenerateConfig::default() };
        let mut session = Session::new(janus.model(), prompts.to_vec(), Vec::new(), 9, &[]).expect("fits");
        let on_text = &mut |_: usize, _: &str| ControlFlow::Continue(());
        let error = session.generate(&[0], janus.tokenizer(), &config, &[1], on_text).expect_err("never ends");
        assert!(error.to_string().contains("in the place of an end"), "{error}");
        assert!(waits > 0 && realised.iter().any(|length| *length < 24), "{waits} {realised:?}");
    }
}

#[test]
fn rows_that_are_taken_up_again_write_what_they_would_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for precision in [Precision::F32, Precision::Auto] {
        let janus = tiny(folder.path(), precision);
        let texts = ["a first, the longest of all five", "two", "three of them", "a first, and another end", "five"];
        let prompts = texts.map(|text| janus.tokenizer().encode_template(text).expect("encodes"));
        let config = GenerateConfig {
            sampling: Sampling { temperature: 1.5, ..Sampling::default() },
            max_tokens: 24,
            stop_ids: (0..40).collect(),
            ..GenerateConfig::default()
        };
        let tokenizer = janus.tokenizer();
        let on_text = &mut |_: usize, _: &str| ControlFlow::Continue(());
        let seed = |prompt: usize| 7 + prompt as u64;
        let alone = |prompt: usize| {
            let mut session =
                Session::new(janus.model(), vec![prompts[prompt].clone()], Vec::new(), 25, &[1]).expect("fits");
            let states = session.states(0).to_vec();
            let on_text = &mut |_: usize, _: &str| ControlFlow::Continue(());
            (session.generate(&[0], tokenizer, &config, &[seed(prompt)], on_text).expect("writes").remove(0), states)
        };
        let mut session =
            Session::with_room(janus.model(), prompts[1..3].to_vec(), Vec::new(), 25, &[1], 40).expect("fits");
        let (mut holds, mut waiting) = ([1, 2], vec![3, 0, 4]);
        let mut states = [session.states(0).to_vec(), session.states(1).to_vec()];
        session.begin(&[0, 1], tokenizer, &config, &[seed(1), seed(2)]).expect("ready");
        let (mut writing, mut written) = (vec![0, 1], Vec::new());
        while !writing.is_empty() {
            for row in session.write_until_end(&mut writing, tokenizer, &config, on_text).expect("writes") {
                let ended = session.end(row, tokenizer, &config).expect("decodes");
                written.push(ended.ids.len());
                assert_eq!((ended, states[row].clone()), alone(holds[row]), "prompt {} in row {row}", holds[row]);
                let Some(next) = waiting.pop() else { continue };
                session.replace(row, prompts[next].clone(), None).expect("fits");
                session.begin(&[row], tokenizer, &config, &[seed(next)]).expect("ready");
                (holds[row], states[row]) = (next, session.states(row).to_vec());
                writing.push(row);
            }
            writing.sort_unstable();
        }
        assert_eq!(written.len(), 5);
        assert!(written.iter().any(|length| *length != written[0]), "they end at different times: {written:?}");
        let error = session.replace(0, TokenIds(vec![1; 70]), None).expect_err("no room");
        assert!(error.to_string().contains("95"), "{error}");
    }
}

#[test]
fn findings_are_answered_the_same_in_any_number_of_rows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let janus = tiny(folder.path(), Precision::Auto);
    let pairs = ["%3Cb%3E", "x", "%22y", "%3Cscript%3E", "zz"].map(pair);
    let claim = Claim::new(VulnCategory::Xss).with_parameter("q");
    let findings: Vec<_> = pairs.iter().map(|pair| (pair, &claim)).collect();
    let sampling = Sampling { temperature: 1.5, ..Sampling::default() };
    let told = |batch_size: usize| {
        let config = AssessConfig { max_tokens: 12, sampling, batch_size, ..AssessConfig::default() };
        let mut answers = vec![None; findings.len()];
        let each = janus.assess_each(&findings, &config, &mut (), |index, answer| {
            let verdict = answer.expect("fits").verdict;
            assert!(answers[index].replace((verdict.p_vulnerable, verdict.analysis, verdict.tokens)).is_none());
            Ok::<(), janus_core::Error>(())
        });
        each.expect("answered");
        answers
    };
    let all = told(5);
    assert!(all.iter().all(Option::is_some));
    assert_eq!((told(1), told(2)), (all.clone(), all));
}

#[test]
fn votes_are_the_same_in_any_company_and_end_early() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let janus = tiny(folder.path(), Precision::F32);
    let pairs = ["%3Cb%3E", "x", "%22y"].map(pair);
    let claim = Claim::new(VulnCategory::Xss).with_parameter("q");
    let sampling = Sampling { temperature: 1.0, ..Sampling::default() };
    let votes = Votes { most: 6, rule: VoteRule::Majority, stop_early: false };
    let all = AssessConfig { max_tokens: 6, sampling, votes, batch_size: 13, ..AssessConfig::default() };
    let ask = |order: &[usize], config: &AssessConfig| {
        let findings: Vec<_> = order.iter().map(|at| (&pairs[*at], &claim)).collect();
        let answers = janus.assess_batch(&findings, config, &mut ()).expect("answered");
        answers.into_iter().map(|answer| answer.expect("fits").verdict).collect::<Vec<_>>()
    };
    let in_order = ask(&[0, 1, 2], &all);
    let turned = ask(&[2, 0, 1], &AssessConfig { batch_size: 1, ..all.clone() });
    for (one, other) in in_order.iter().zip([&turned[1], &turned[2], &turned[0]]) {
        let told = |verdict: &janus_core::Verdict| {
            (verdict.p_vulnerable, verdict.votes, verdict.analysis.clone(), verdict.tokens.generated)
        };
        assert_eq!(told(one), told(other));
        let counts = one.votes.expect("there are several");
        assert_eq!((counts.cast, one.p_vulnerable.get()), (6, counts.holding as f64 / 6.0));
    }
    // Where the first four agree no further is asked for, and the outcome is theirs.
    let early = ask(&[0, 1, 2], &AssessConfig { votes: Votes { stop_early: true, ..votes }, ..all.clone() });
    for verdict in &early {
        let counts = verdict.votes.expect("there are several");
        assert!(counts.cast == 4 && [0, 4].contains(&counts.holding) || counts.cast == 6, "{counts:?}");
    }
    // A second look spends votes on what is unsure alone.
    let look = |between| AssessConfig {
        second_look: Some(SecondLook { between, votes, sampling }),
        votes: Votes::default(),
        sampling: Sampling::default(),
        ..all.clone()
    };
    assert!(ask(&[0], &look([2.0, 3.0]))[0].votes.is_none());
    let unsure = ask(&[0], &look([0.0, 1.0])).remove(0);
    assert_eq!((unsure.votes, unsure.p_vulnerable), (in_order[0].votes, in_order[0].p_vulnerable));
    let error = janus.assess_batch(&[], &AssessConfig { votes, ..AssessConfig::default() }, &mut ());
    assert!(error.expect_err("all votes would be the same").to_string().contains("votes"));
    assert_eq!(AssessConfig::default().with_effort(Effort::Medium), AssessConfig::default());
}
