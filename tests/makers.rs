//! The programs that make data and models: what they are told, and what kills do to them.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use janus_data::{Sample, Store};

use crate::{TINY, program, stderr, stdout};

fn data_generator(folder: &Path, args: &[&str]) -> Command {
    let mut command = program(env!("CARGO_BIN_EXE_data_generator"), folder);
    command.args(args);
    command
}

fn stored(db: &Path) -> Vec<Sample> {
    let samples = Store::open_read_only(db).expect("a database").samples().expect("readable");
    samples.into_iter().collect::<Result<_, _>>().expect("valid")
}

#[test]
fn the_generator_introduces_what_it_is_told_and_nothing_that_it_is_told_not_to() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let instruction = "Do not introduce CORS misconfiguration, but introduce HSTS misconfiguration";
    let args = ["--num", "5", "--vuln", "HTTP_HEADERS", "--verbose", "--db", "a.sqlite", "--instruction", instruction];
    let output = data_generator(folder.path(), &args).output().expect("the program starts");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("agents: builtin\n"), "{}", stdout(&output));
    assert!(stderr(&output).contains("kind=\"hsts-"), "{}", stderr(&output));
    let samples = stored(&folder.path().join("a.sqlite"));
    assert_eq!(samples.len(), 10);
    assert!(samples.iter().all(|sample| sample.origin.kind.as_deref().is_some_and(|kind| kind.starts_with("hsts"))));
    let output =
        data_generator(folder.path(), &["--instruction", "introduce telepathy"]).output().expect("the program starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("cannot be read at \"telepathy\"; known are: hsts, cors, csp"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_generation_that_is_killed_twenty_times_ends_like_one_that_is_not() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let args = |db: &'static str| ["--num", "2500", "--seed", "4", "--uncurated", "--db", db];
    assert!(
        data_generator(folder.path(), &args("whole.sqlite")).output().expect("the program starts").status.success()
    );
    // Moments of a fixed list of pseudo-random milliseconds.
    let mut moment: u64 = 88_172_645_463_325_252;
    for round in 0..20 {
        moment ^= moment << 13;
        moment ^= moment >> 7;
        moment ^= moment << 17;
        let mut command = data_generator(folder.path(), &args("killed.sqlite"));
        command.args((round > 0).then_some("--resume")).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the program starts");
        thread::sleep(std::time::Duration::from_millis(40 + moment % 120));
        child.kill().expect("killed");
        child.wait().expect("gone");
    }
    let mut last = data_generator(folder.path(), &args("killed.sqlite"));
    let output = last.arg("--resume").output().expect("the program starts");
    assert!(output.status.success(), "{}", stderr(&output));
    let (whole, killed) = (stored(&folder.path().join("whole.sqlite")), stored(&folder.path().join("killed.sqlite")));
    assert_eq!((whole.len(), killed.len()), (5000, 5000));
    assert!(whole == killed, "the samples differ");
    // Another run is not resumed.
    let output = data_generator(folder.path(), &["--num", "3", "--uncurated", "--db", "other.sqlite"])
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", stderr(&output));
    let output = data_generator(folder.path(), &["--num", "3", "--uncurated", "--db", "other.sqlite", "--resume"])
        .output()
        .expect("the program starts");
    assert!(stdout(&output).contains("nothing is left to do"), "{}", stdout(&output));
}

fn lora_trainer(folder: &Path, output: &str) -> Command {
    let mut command = program(env!("CARGO_BIN_EXE_lora_trainer"), folder);
    command.arg("--model").arg(TINY.path()).args(["--db", "samples.sqlite", "--output", output, "--rank", "4"]);
    command.args(["--epochs", "40", "--max-seq-len", "4000", "--offline", "--charts"]);
    command
}

#[test]
fn a_training_that_is_killed_ends_with_the_bytes_of_one_that_is_not_and_triage_reads_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let args = ["--num", "12", "--uncurated", "--db", "samples.sqlite"];
    let output = data_generator(folder.path(), &args).output().expect("the program starts");
    assert!(output.status.success(), "{}", stderr(&output));
    let whole = lora_trainer(folder.path(), "whole").output().expect("the program starts");
    assert!(whole.status.success(), "{}", stderr(&whole));
    // Killed between checkpoints, each time further on.
    for (round, lines) in [5, 25, 35].into_iter().enumerate() {
        let mut command = lora_trainer(folder.path(), "killed");
        command.args((round > 0).then_some("--resume")).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the program starts");
        let log = folder.path().join("killed/log.jsonl");
        while fs::read_to_string(&log).map_or(0, |text| text.lines().count()) < lines {
            assert!(child.try_wait().expect("asked").is_none(), "the run has ended before it could be killed");
            thread::sleep(std::time::Duration::from_millis(5));
        }
        child.kill().expect("killed");
        child.wait().expect("gone");
        assert!(!folder.path().join("killed/README.md").exists(), "a killed run has no card yet");
        assert_eq!(folder.path().join("killed/checkpoint.safetensors").exists(), lines > 20);
    }
    let last = lora_trainer(folder.path(), "killed").arg("--resume").output().expect("the program starts");
    assert!(last.status.success(), "{}", stderr(&last));
    assert_eq!(stdout(&last), stdout(&whole));
    let read = |run: &str, name: &str| fs::read(folder.path().join(run).join(name)).expect("there");
    for name in ["adapter_model.safetensors", "adapter_config.json", "checkpoint.safetensors", "README.md"] {
        assert!(read("whole", name) == read("killed", name), "{name} differs");
    }
    assert!(read("whole", "loss.png").starts_with(b"\x89PNG"));
    let again = lora_trainer(folder.path(), "whole").output().expect("the program starts");
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("--resume"), "{}", stderr(&again));
    // One adapter for all, one for a category alone, and a variant that reads none.
    let triage = |args: &[&str]| {
        let mut command = program(env!("CARGO_BIN_EXE_triage"), folder.path());
        command.arg("--model").arg(TINY.path()).args(["--max-tokens", "8", "--offline", "--output-format", "jsonl"]);
        command.args(args).output().expect("the program starts")
    };
    let output = triage(&["--adapter", "whole"]);
    let lines: Vec<serde_json::Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(lines.len() >= 12 && lines.iter().all(|line| line["variant"] == "FT-PE-SC"), "{}", stderr(&output));
    assert!(lines.iter().all(|line| line["audit"]["adapter"].as_str().is_some_and(|text| text.starts_with("sha256:"))));
    let output = triage(&["--adapter", "XSS=whole"]);
    let answered = |category: &str| {
        let lines = stdout(&output);
        let own = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        own.filter(|line| line["category"] == category).all(|line| line["error"].is_null())
    };
    assert!(answered("XSS") && !answered("HTTP_HEADERS"), "{}", stdout(&output));
    for (args, says) in [
        (["--adapter", "whole", "--variant", "SC"].as_slice(), "reads no --adapter"),
        (&["--variant", "FT-SC"], "needs --adapter"),
        (&["--adapter", "nowhere"], "nowhere"),
        (&["--adapter", "XSS=whole", "--adapter", "killed"], "has one already"),
    ] {
        let output = triage(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(says), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn an_adapter_reflects_goes_on_where_it_was_killed_and_triage_reads_what_it_became() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let args = ["--num", "12", "--uncurated", "--db", "samples.sqlite"];
    let output = data_generator(folder.path(), &args).output().expect("the program starts");
    assert!(output.status.success(), "{}", stderr(&output));
    let mut first = lora_trainer(folder.path(), "phase-1");
    assert!(first.args(["--max-steps", "2"]).output().expect("the program starts").status.success());
    let grpo = |output: &str, more: &[&str]| {
        let mut command = program(env!("CARGO_BIN_EXE_grpo_trainer"), folder.path());
        command.arg("--model").arg(TINY.path()).args(["--db", "samples.sqlite", "--adapter", "phase-1", "--offline"]);
        command.args(["--steps", "4", "--group", "4", "--reflection-tokens", "5", "--max-tokens", "4"]);
        command.args(["--failures", "4", "--validation-samples", "4", "--validate-every", "2", "--charts"]);
        command.args(["--attempts", "failures.sqlite", "--output", output]).args(more);
        command
    };
    let whole = grpo("whole", &[]).output().expect("the program starts");
    assert!(whole.status.success(), "{}", stderr(&whole));
    assert!(stdout(&whole).starts_with("4 steps on 4 failed and"), "{}", stdout(&whole));
    let mut child =
        grpo("killed", &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
    let log = folder.path().join("killed/log.jsonl");
    while fs::read_to_string(&log).map_or(0, |text| text.lines().count()) < 3 {
        assert!(child.try_wait().expect("asked").is_none(), "the run has ended before it could be killed");
        thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    let last = grpo("killed", &["--resume"]).output().expect("the program starts");
    assert_eq!(stdout(&last), stdout(&whole), "{}", stderr(&last));
    let read = |run: &str, name: &str| fs::read(folder.path().join(run).join(name)).expect("there");
    for name in ["adapter_model.safetensors", "adapter_config.json", "checkpoint.safetensors", "README.md"] {
        assert!(read("whole", name) == read("killed", name), "{name} differs");
    }
    assert!(read("whole", "reward.png").starts_with(b"\x89PNG"));
    let revealed = grpo("revealed", &["--reveal-ground-truth", "--loss", "dapo", "--variant", "FT-SC"]);
    let revealed = { revealed }.output().expect("the program starts");
    assert!(revealed.status.success(), "{}", stderr(&revealed));
    assert!(String::from_utf8_lossy(&read("revealed", "README.md")).contains("ground truth revealed"));
    let refused = grpo("refused", &["--variant", "PE-SC"]).output().expect("the program starts");
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("FT-SC or FT-PE-SC"), "{}", stderr(&refused));
    let mut triage = program(env!("CARGO_BIN_EXE_triage"), folder.path());
    triage.arg("--model").arg(TINY.path()).args(["--max-tokens", "8", "--offline", "--adapter", "whole"]);
    let output = triage.output().expect("the program starts");
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn one_setting_of_training_is_varied_and_a_second_run_trains_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let args = ["--num", "60", "--uncurated", "--db", "samples.sqlite"];
    assert!(data_generator(folder.path(), &args).output().expect("the program starts").status.success());
    let sized = |knobs: &str, scale: &str| {
        let mut command = program(env!("CARGO_BIN_EXE_benchmark"), folder.path());
        command.arg("--model").arg(TINY.path()).args(["--offline", "--precision", "f32", "--ablation", knobs]);
        command.args(["--train-db", "samples.sqlite", "--scale", scale, "--seeds", "2", "--findings", "2"]);
        command.args(["--output", "trials"]).env("JANUS_CACHE", folder.path()).output().expect("the program starts")
    };
    let benchmark = |knobs: &str| sized(knobs, "0.016");
    let first = benchmark("lr,samples,facts,states");
    assert!(first.status.success(), "{}", stderr(&first));
    for row in ["| lr | 0.0001 | 16 | 2 | 4 |", "| samples | hand | 16 | 2 | 4 |", "| facts | none | 7 | 2 | 12 |"] {
        assert!(stdout(&first).contains(row), "{row}: {}", stdout(&first));
    }
    let read = |name: &str| fs::read(folder.path().join("trials").join(name)).expect("there");
    let trials = read("trials.jsonl");
    // Four learning rates, two sources of samples (none is uncurated here), five places for facts, two kinds of states.
    assert_eq!(trials.iter().filter(|byte| **byte == b'\n').count(), 2 * (4 + 2 + 5 + 2));
    assert!(
        read("lr.png").starts_with(b"\x89PNG")
            && String::from_utf8_lossy(&read("report.html")).contains("Learning rate")
    );
    let again = benchmark("lr,samples,facts,states");
    assert_eq!(stdout(&again), stdout(&first), "{}", stderr(&again));
    assert!(read("trials.jsonl") == trials, "nothing was left to train");
    let other = sized("lr", "0.024");
    assert_eq!(other.status.code(), Some(2), "sizes are not mixed: {}", stdout(&other));
    assert!(stderr(&other).contains("\"samples\":24"), "{}", stderr(&other));
    let refused = benchmark("colour");
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("rank") && stderr(&refused).contains("budget"), "{}", stderr(&refused));
}

#[test]
fn a_bundle_comes_out_of_both_doors_with_the_same_bytes_and_triage_and_benchmark_read_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let args = ["--num", "60", "--uncurated", "--db", "samples.sqlite"];
    let output = data_generator(folder.path(), &args).output().expect("the program starts");
    assert!(output.status.success(), "{}", stderr(&output));
    let model = |program_path: &str, args: &[&str]| {
        let mut command = program(program_path, folder.path());
        command.arg("--model").arg(TINY.path()).args(["--offline", "--precision", "f32"]).args(args);
        command.env("JANUS_CACHE", folder.path()).output().expect("the program starts")
    };
    let trained = model(
        env!("CARGO_BIN_EXE_class_trainer"),
        &["--db", "samples.sqlite", "--output", "bundle", "--charts", "--states", "states.sqlite"],
    );
    assert!(trained.status.success(), "{}", stderr(&trained));
    assert!(stdout(&trained).contains("heads tried; chosen:"), "{}", stdout(&trained));
    assert!(fs::read(folder.path().join("bundle/layers.png")).expect("drawn").starts_with(b"\x89PNG"));
    let again =
        model(env!("CARGO_BIN_EXE_lora_trainer"), &["--mode", "class", "--db", "samples.sqlite", "--output", "again"]);
    assert!(again.status.success(), "{}", stderr(&again));
    assert_eq!(stdout(&again), stdout(&trained));
    let read = |run: &str| fs::read(folder.path().join(run).join("manifest.json")).expect("there");
    assert_eq!(read("again"), read("bundle"));
    let answered = model(
        env!("CARGO_BIN_EXE_triage"),
        &["--bundle", "bundle", "--analysis", "none", "--prior", "0.1", "--output-format", "jsonl"],
    );
    assert!(answered.status.success(), "{}", stderr(&answered));
    assert_eq!(stdout(&answered).lines().count(), 16);
    for line in stdout(&answered).lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!((&line["variant"], &line["audit"]["prior"]), (&"FT-PE-CH".into(), &0.1.into()), "{line}");
    }
    // A stranger's program reads the same bundle.
    let mut embed = program(env!("CARGO_BIN_EXE_embed"), folder.path());
    let output = embed.arg(TINY.path()).arg("bundle").output().expect("it starts");
    assert!(stdout(&output).contains("(p = 0.") && output.status.success(), "{}", stderr(&output));
    let benchmark = |args: &[&str]| {
        let fixed = ["--db", "samples.sqlite", "--set", "/dev/null", "--analysis", "none", "--output", "results"];
        model(env!("CARGO_BIN_EXE_benchmark"), &[&fixed, args].concat())
    };
    let evaluated = benchmark(&["--variants", "FT-PE-CH", "--bundle", "bundle", "--bundle", "control: own name=again"]);
    assert!(evaluated.status.success(), "{}", stderr(&evaluated));
    for name in ["-FT-PE-CH, no analysis | all", "control: own name, no analysis | all"] {
        assert!(stdout(&evaluated).contains(name), "{}", stdout(&evaluated));
    }
    let predictions = || fs::read(folder.path().join("results/predictions.jsonl")).expect("there");
    let before = predictions();
    assert!(benchmark(&["--variants", "FT-PE-CH", "--bundle", "bundle"]).status.success());
    assert!(predictions() == before, "nothing was left to do");
    let twice = benchmark(&["--variants", "FT-PE-CH", "--bundle", "bundle", "--bundle", "again"]);
    assert!(stderr(&twice).contains("two systems would have the name"), "{}", stderr(&twice));
    let refused = benchmark(&["--variants", "FT-CH"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("needs --bundle"), "{}", stderr(&refused));
    let refused = model(env!("CARGO_BIN_EXE_lora_trainer"), &["--adapter", "again", "--output", "x"]);
    assert!(stderr(&refused).contains("--mode class"), "{}", stderr(&refused));
}
