//! The programs end to end: what a user types, what comes back.

// Here, for they need the store, the generator and the programs.
#[path = "agents.rs"]
mod agents;
#[path = "makers.rs"]
mod makers;
#[path = "published.rs"]
mod published;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::Value;
use tempfile::TempDir;

/// A tiny random model, written once.
pub(crate) static TINY: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    janus_core::write_tiny_model(folder.path(), 5).expect("written");
    folder
});

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

/// A program in an empty folder, without the user's settings.
pub(crate) fn program(path: &str, folder: &Path) -> Command {
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

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

pub(crate) fn stderr(output: &Output) -> String {
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
    assert_eq!(error, "in.jsonl: line 2: unknown vulnerability category \"SQLI\", expected one of HTTP_HEADERS, XSS");
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
    let seeded = triage(folder.path(), &[&args[..], &["--resume", "--seed", "9"]].concat());
    assert!(stderr(&seeded).contains("at /audit/seed, not 9"), "{}", stderr(&seeded));
    fs::write(folder.path().join("in.jsonl"), lines[1..].join("\n")).expect("written");
    let output = triage(folder.path(), &[&args[..], &["--resume"]].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("record 1 of the earlier output is \"f0\""), "{}", stderr(&output));
}

#[test]
fn an_output_never_costs_an_input_nor_an_earlier_output() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("in.jsonl");
    fs::write(&path, finding("a", "x")).expect("written");
    let output = triage(folder.path(), &["in.jsonl", "--output", "in.jsonl"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("is one of the inputs"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(&path).expect("there"), finding("a", "x"));
    let kept = folder.path().join("kept.jsonl");
    fs::write(&kept, "precious").expect("written");
    let mut command = program(env!("CARGO_BIN_EXE_triage"), folder.path());
    let status =
        command.args(["in.jsonl", "--model", "/nowhere", "--output", "kept.jsonl"]).status().expect("it starts");
    assert_eq!(status.code(), Some(2));
    assert_eq!(fs::read_to_string(&kept).expect("there"), "precious");
}

#[test]
fn the_gate_counts_what_an_earlier_run_found() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("in.jsonl"), finding("a", "x")).expect("written");
    let args = ["in.jsonl", "--output", "out.jsonl", "--analysis", "none", "--fail-on", "true_positive"];
    triage(folder.path(), &args);
    let path = folder.path().join("out.jsonl");
    let text = fs::read_to_string(&path).expect("written");
    for (verdict, code) in [("true_positive", 1), ("false_positive", 0)] {
        let forged = text.replace("\"true_positive\"", "\"VERDICT\"").replace("\"false_positive\"", "\"VERDICT\"");
        fs::write(&path, forged.replace("VERDICT", verdict)).expect("written");
        let output = triage(folder.path(), &[&args[..], &["--resume"]].concat());
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
    }
}

#[test]
fn absurd_lengths_and_weights_that_are_no_numbers_are_errors() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("in.jsonl"), finding("a", "x")).expect("written");
    let mut command = program(env!("CARGO_BIN_EXE_triage"), folder.path());
    command.arg("--model").arg(TINY.path()).args([
        "in.jsonl",
        "--output-format",
        "jsonl",
        "--max-tokens",
        "18446744073709551615",
    ]);
    let output = command.output().expect("it starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        records(&stdout(&output))[0]["error"].as_str().expect("an error").contains("do not fit the model's context")
    );
    let broken = tempfile::tempdir().expect("a temporary folder");
    janus_core::write_tiny_model(broken.path(), 1).expect("written");
    let path = broken.path().join("model.safetensors");
    let mut bytes = fs::read(&path).expect("there");
    let end = bytes.len();
    bytes[end - 8..].fill(0xff);
    fs::write(&path, bytes).expect("written");
    let mut command = program(env!("CARGO_BIN_EXE_triage"), folder.path());
    command.arg("--model").arg(broken.path()).args(["in.jsonl", "--analysis", "none"]);
    let output = command.output().expect("it starts");
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    assert!(stderr(&output).contains("is not a number"), "{}", stderr(&output));
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
    // An expectation that says nothing, or of another model, is no proof.
    let other = parity(&[&model, &path("gemma3_text/expected.safetensors")]);
    assert_eq!(other.status.code(), Some(2));
    assert!(stderr(&other).contains("is nothing that a model of 2 blocks gives"), "{}", stderr(&other));
    let refused = parity(&[&path("mixtral"), &path("mixtral/expected.safetensors")]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("architecture \"mixtral\" is not supported: a mixture of experts is not computed")
    );
}

/// A chat server on this machine that gives one answer to all, and counts the requests.
fn chat_server(answer: &str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/v1", listener.local_addr().expect("bound"));
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let reply = serde_json::json!({
        "id": "1", "object": "chat.completion", "created": 1, "model": "fake",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    })
    .to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a number");
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a whole request");
            assert!(String::from_utf8_lossy(&body).contains("Verdict"), "the prompt is the engineered one");
            counter.fetch_add(1, Ordering::Relaxed);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                reply.len()
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(reply.as_bytes()));
        }
    });
    (url, count)
}

fn labelled(id: usize) -> String {
    let mut finding: Value = serde_json::from_str(&finding(&format!("s{id}"), &"y".repeat(id * 13))).expect("JSON");
    finding["is_vulnerable"] = Value::Bool(id.is_multiple_of(2));
    finding["kind"] = "toy".into();
    finding.to_string()
}

fn benchmark(folder: &Path, args: &[&str]) -> Output {
    let mut command = program(env!("CARGO_BIN_EXE_benchmark"), folder);
    command.arg("--model").arg(TINY.path()).args(["--set", "set.jsonl", "--analysis", "none", "--offline"]).args(args);
    command.env_remove("LLM_API_URL").env_remove("LLM_API_KEY").output().expect("the program starts")
}

#[test]
fn a_benchmark_stores_every_prediction_and_goes_on_where_it_was_killed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let lines: Vec<String> = (0..10).map(labelled).collect();
    fs::write(folder.path().join("set.jsonl"), lines.join("\n")).expect("written");
    let output = benchmark(folder.path(), &["--output", "whole"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for system in [
        "control: majority",
        "control: scanner's word",
        "control: response length",
        "-SC, no analysis",
        "-PE-SC, no analysis",
    ] {
        assert!(stdout(&output).contains(system), "{system} is missing:\n{}", stdout(&output));
    }
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("there");
    assert_eq!(read("whole/tables.md"), stdout(&output));
    let predictions = read("whole/predictions.jsonl");
    assert_eq!(predictions.lines().count(), 6 * 10);
    // Its report, and the same made again of what is stored, without a model.
    assert!(read("whole/report.html").contains("Mistakes of"));
    let again = |args: &[&str]| {
        let mut command = program(env!("CARGO_BIN_EXE_benchmark"), folder.path());
        command.args(args).args(["--output", "again", "--model", "none", "--offline"]).output().expect("starts")
    };
    let output = again(&["--report", "whole", "--set", "set.jsonl"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for file in ["report.html", "report.md", "results.json"] {
        assert!(read(&format!("whole/{file}")) == read(&format!("again/{file}")), "{file} differs");
    }
    let output = again(&["--report", "whole"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(read("again/report.html").contains("were not at hand"), "the page says how to get pairs");
    let output = again(&["--report", "."]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("holds no results"), "{}", stderr(&output));
    // A kill in the middle of a line: the rest is done again, and the bytes are those of a whole run.
    fs::create_dir(folder.path().join("half")).expect("created");
    fs::write(folder.path().join("half/settings.json"), read("whole/settings.json")).expect("written");
    fs::write(folder.path().join("half/predictions.jsonl"), &predictions[..predictions.len() / 2]).expect("written");
    let output = benchmark(folder.path(), &["--output", "half"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(read("half/predictions.jsonl"), predictions);
    assert_eq!(read("half/tables.md"), read("whole/tables.md"));
    let output = benchmark(folder.path(), &["--output", "half", "--seed", "7"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("holds results of other settings"), "{}", stderr(&output));
}

#[test]
fn a_large_model_behind_a_server_is_one_more_row_paid_for_once_and_within_its_budget() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let lines: Vec<String> = (0..6).map(labelled).collect();
    fs::write(folder.path().join("set.jsonl"), lines.join("\n")).expect("written");
    let (url, count) = chat_server("It runs.\nVerdict: 1");
    let args = ["--output", "out", "--variants", "SC", "--general-model", "large", "--llm-api-url", &url];
    // 120 tokens an answer: the third call finds 240 of 200 tokens spent.
    let output = benchmark(folder.path(), &[&args[..], &["--budget-tokens", "200"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(count.load(Ordering::Relaxed), 2);
    assert!(stdout(&output).contains("| large-PE-SC | all | 6 | 4 | 50"), "{}", stdout(&output));
    // Predictions thrown away: the two answers come from the cache.
    fs::remove_file(folder.path().join("out/predictions.jsonl")).expect("there");
    let output = benchmark(folder.path(), &args);
    assert!(stdout(&output).contains("| large-PE-SC | all | 6 | 0 | 50"), "{}", stdout(&output));
    assert_eq!(count.load(Ordering::Relaxed), 6);
    let costs = fs::read_to_string(folder.path().join("out/costs.md")).expect("there");
    assert!(costs.contains("| large-PE-SC |") && costs.contains("| 100 | 20 |"), "{costs}");
}

#[test]
fn a_set_without_labels_is_refused_with_its_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("set.jsonl"), format!("{}\n{}\n", labelled(1), finding("b", "x"))).expect("written");
    let output = benchmark(folder.path(), &["--output", "out"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("set.jsonl: line 2: field `is_vulnerable`: expected true or false, found nothing"),
        "{}",
        stderr(&output)
    );
}
