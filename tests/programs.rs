//! The programs end to end: what a user types, what comes back.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::LazyLock,
};

use serde_json::Value;
use tempfile::TempDir;

/// A tiny random model, written once.
static TINY: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    janus_core::write_tiny_model(folder.path(), 5).expect("written");
    folder
});

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

/// A program in an empty folder, without the user's settings.
fn program(path: &str, folder: &Path) -> Command {
    let mut command = Command::new(path);
    command
        .current_dir(folder)
        .env_remove("MODEL_PATH")
        .env_remove("RUST_LOG")
        .env("JANUS_CACHE", folder.join("cache"));
    command.stdin(Stdio::null());
    command
}

fn triage(folder: &Path, args: &[&str]) -> Output {
    let mut command = program(env!("CARGO_BIN_EXE_triage"), folder);
    command.arg("--model").arg(TINY.path()).args(["--max-tokens", "12", "--offline"]).args(args);
    command.output().expect("the program starts")
}

fn parity(args: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    program(env!("CARGO_BIN_EXE_parity"), folder.path()).args(args).output().expect("the program starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Records without what differs from run to run.
fn records(text: &str) -> Vec<Value> {
    let mut records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    records.iter_mut().for_each(|record| {
        record.as_object_mut().expect("an object").remove("seconds");
    });
    records
}

fn finding(id: &str, body: &str) -> String {
    serde_json::json!({
        "id": id, "category": "XSS", "claim": {"parameter": "q", "evidence": "<b>"}, "severity": "high",
        "request": "GET /?q=%3Cb%3E HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "response": format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p><b>{body}</p>"),
    })
    .to_string()
}

const RAW: &str = "GET / HTTP/1.1\n\n<<<<>>>>\nHTTP/1.1 200 OK\n\nhi\n";

#[test]
fn triage_answers_in_input_order_and_one_bad_record_stops_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bad = r#"{"id": "bad", "category": "SQLI", "request": "", "response": "", "team": 7}"#;
    let input = format!("{}\n{bad}\n{}\n", finding("first", "one"), finding("last", "two"));
    fs::write(folder.path().join("in.jsonl"), input).expect("written");
    let output = triage(folder.path(), &["in.jsonl", "--output-format", "jsonl"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let records = records(&stdout(&output));
    let ids: Vec<_> = records.iter().map(|record| record["id"].as_str().expect("a string")).collect();
    assert_eq!(ids, ["first", "bad", "last"]);
    assert_eq!(records[1]["verdict"], Value::Null);
    assert_eq!(records[1]["team"], 7);
    let error = records[1]["error"].as_str().expect("a string");
    assert_eq!(error, "line 2: unknown vulnerability category \"SQLI\", expected one of HTTP_HEADERS, XSS");
    let first = &records[0];
    assert_eq!(first["error"], Value::Null);
    assert_eq!(first["severity"], "high");
    assert_eq!(first["variant"], "PE-SC");
    assert!(first["analysis"].is_string() && first["p_vulnerable"].is_f64());
    assert!(first["audit"]["base"].as_str().expect("a string").starts_with("sha256:"));
    assert_eq!(first["evidence"][0]["quote"], "<b>");
    let (start, end) = (first["evidence"][0]["start"].as_u64(), first["evidence"][0]["end"].as_u64());
    assert_eq!((start, end), (Some(47), Some(50)));
    assert!(stderr(&output).contains("1 failed"));
}

#[test]
fn answers_do_not_depend_on_the_order_or_the_neighbours() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let lines: Vec<_> = (0..11).map(|index| finding(&format!("f{index}"), &"x".repeat(index * 9))).collect();
    let run = |lines: &[String], seed: &str| {
        fs::write(folder.path().join("in.jsonl"), lines.join("\n")).expect("written");
        let output =
            triage(folder.path(), &["in.jsonl", "--output-format", "jsonl", "--temperature", "0.8", "--seed", seed]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        records(&stdout(&output))
    };
    let forward = run(&lines, "3");
    assert_eq!(forward, run(&lines, "3"), "the same seed gives the same answers");
    let backward: Vec<_> = run(&lines.iter().rev().cloned().collect::<Vec<_>>(), "3").into_iter().rev().collect();
    for (a, b) in forward.iter().zip(&backward) {
        assert_eq!(a["analysis"], b["analysis"]);
        let p = |record: &Value| record["p_vulnerable"].as_f64().expect("a number");
        assert!((p(a) - p(b)).abs() < 1e-5, "{a} {b}");
    }
    let other = run(&lines, "4");
    assert!(forward.iter().zip(&other).any(|(a, b)| a["analysis"] != b["analysis"]), "another seed gives other text");
}

#[test]
fn an_interrupted_run_is_resumed_behind_its_last_whole_record() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let lines: Vec<_> = (0..5).map(|index| finding(&format!("f{index}"), "x")).collect();
    fs::write(folder.path().join("in.jsonl"), lines.join("\n")).expect("written");
    let args = ["in.jsonl", "--output", "out.jsonl", "--analysis", "none"];
    assert_eq!(triage(folder.path(), &args).status.code(), Some(0));
    let path = folder.path().join("out.jsonl");
    let whole = fs::read_to_string(&path).expect("written");
    let half = whole.lines().take(2).map(str::len).sum::<usize>() + 20;
    fs::write(&path, &whole[..half]).expect("written");
    let output = triage(folder.path(), &[&args[..], &["--resume"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(records(&fs::read_to_string(&path).expect("written")), records(&whole));
    fs::write(folder.path().join("in.jsonl"), lines[1..].join("\n")).expect("written");
    let output = triage(folder.path(), &[&args[..], &["--resume"]].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("record 1 of the earlier output is \"f0\""), "{}", stderr(&output));
}

#[test]
fn raw_pairs_come_from_standard_input_or_from_a_folder_named_after_their_category() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = program(env!("CARGO_BIN_EXE_triage"), folder.path());
    command.arg("--model").arg(TINY.path()).args([
        "-",
        "--category",
        "XSS",
        "--analysis",
        "none",
        "--output-format",
        "jsonl",
    ]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
    child.stdin.take().expect("piped").write_all(RAW.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(records(&stdout(&output))[0]["category"], "XSS");
    fs::create_dir(folder.path().join("HTTP_HEADERS")).expect("created");
    fs::write(folder.path().join("HTTP_HEADERS/a.http"), RAW).expect("written");
    let output = triage(folder.path(), &["HTTP_HEADERS", "--analysis", "none", "--output-format", "jsonl"]);
    assert_eq!(records(&stdout(&output))[0]["category"], "HTTP_HEADERS");
}

#[test]
fn the_shipped_samples_are_the_default_and_a_table_without_a_terminal_has_no_escapes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = triage(folder.path(), &["--analysis", "none"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let table = stdout(&output);
    assert!(!table.contains('\u{1b}'));
    for id in ["hsts-missing-login", "xss-textarea", "js-string", "cors-any-origin"] {
        assert!(table.contains(id), "{id} is missing:\n{table}");
    }
}

#[test]
fn the_gate_gives_exit_code_1_only_when_it_is_not_met() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let lines: Vec<_> = (0..6).map(|index| finding(&format!("f{index}"), &"x".repeat(index * 17))).collect();
    for line in lines {
        fs::write(folder.path().join("in.jsonl"), line).expect("written");
        let output = triage(folder.path(), &["in.jsonl", "--output-format", "jsonl", "--fail-on", "true_positive"]);
        let is_positive = records(&stdout(&output))[0]["verdict"] == "true_positive";
        assert_eq!(output.status.code(), Some(i32::from(is_positive)), "{}", stderr(&output));
    }
}

#[test]
fn bad_use_and_bad_input_give_exit_code_2_and_say_why() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("odd.http"), "GET / HTTP/1.1\n").expect("written");
    let cases: [(&[&str], &str); 7] = [
        (&["none.jsonl"], "cannot read none.jsonl: No such file"),
        (&["odd.http", "--category", "XSS"], "odd.http: 1 parts: a request and a response each want one"),
        (&["odd.http", "--category", "SQLI"], "unknown vulnerability category \"SQLI\""),
        (&["--temperature", "-1"], "unexpected argument '-1'"),
        (&["--temperature", "1000"], "temperature: expected 0 to 100, found 1000"),
        (&["--resume"], "--resume needs --output FILE"),
        (&["--threads", "0"], "--threads: expected at least 1"),
    ];
    for (args, expected) in cases {
        let output = triage(folder.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{args:?}: {}", stderr(&output));
    }
}

#[cfg(not(feature = "wgpu"))]
#[test]
fn a_device_that_was_not_built_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = triage(folder.path(), &["--device", "wgpu"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("build with `--features wgpu`"), "{}", stderr(&output));
}

#[test]
fn without_network_and_cache_the_error_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = program(env!("CARGO_BIN_EXE_triage"), folder.path()).arg("--offline").output().expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--offline forbids fetching it; run once without"), "{}", stderr(&output));
}

#[test]
fn dot_env_names_the_model() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join(".env"), "MODEL_PATH=/nowhere/model.gguf\n").expect("written");
    let output = program(env!("CARGO_BIN_EXE_triage"), folder.path()).arg("--offline").output().expect("it starts");
    assert!(stderr(&output).contains("/nowhere/model.gguf"), "{}", stderr(&output));
}

#[test]
fn parity_prints_every_layer_and_its_exit_code_is_the_verdict() {
    let path = |name: &str| golden(name).to_string_lossy().into_owned();
    let (model, expected) = (path("qwen3"), path("qwen3/expected.safetensors"));
    let output = parity(&[&model, &expected]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for name in ["hidden_states.0 ", "hidden_states.1 ", "hidden_states.2 ", "logits ", "within 1e-4"] {
        assert!(stdout(&output).contains(name), "{}", stdout(&output));
    }
    assert_eq!(parity(&[&model, &expected, "--tolerance", "1e-12"]).status.code(), Some(1));
    let refused = parity(&[&path("mixtral"), &path("mixtral/expected.safetensors")]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("architecture \"mixtral\" is not supported: a mixture of experts is not computed")
    );
}

#[test]
fn a_stranger_can_embed_the_library() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = program(env!("CARGO_BIN_EXE_embed"), folder.path()).arg(TINY.path()).output().expect("it starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("(p = 0."), "{}", stdout(&output));
}
