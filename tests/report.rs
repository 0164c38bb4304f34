//! The report's page in Chromium: nothing that stands in it runs.

use std::fs;

use janus_core::HttpPair;
use janus_synth::{Browser, Outcome, PayloadTest, find_browser};
use serde_json::json;

use crate::{program, stderr, stdout};

/// Ways out of a page, a script, a style, an attribute and a comment, each with a call of its own.
const HOSTILE: &str = "</pre></style></title></script>--><script>alert(4242)</script><img src=x onerror=alert(4242)>\
                       \" onmouseover=alert(4242) x=\"' autofocus onfocus=alert(4242) '<svg onload=alert(4242)>{{ 7 }}\u{202e}";

#[test]
fn a_report_of_hostile_findings_runs_nothing_and_shows_them() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let finding = |id: usize| {
        json!({
            "id": format!("{id}{HOSTILE}"), "category": "XSS", "is_vulnerable": id == 0, "kind": HOSTILE,
            "claim": { "text": HOSTILE, "evidence": "alert(4242)", "parameter": HOSTILE },
            "request": "GET /?q=1 HTTP/1.1\r\nHost: a.example\r\n\r\n",
            "response": format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n{HOSTILE}{}", HOSTILE, "z".repeat(100_000)),
        })
        .to_string()
    };
    fs::write(folder.path().join("set.jsonl"), [finding(0), finding(1)].join("\n")).expect("written");
    let mut command = program(env!("CARGO_BIN_EXE_benchmark"), folder.path());
    command.arg("--model").arg(crate::TINY.path()).args(["--set", "set.jsonl", "--output", "results", "--offline"]);
    let output = command.args(["--variants", "SC", "--label", HOSTILE, "--analysis", "none"]).output();
    let output = output.expect("the program starts");
    assert!(output.status.success(), "{}", stderr(&output));
    let mut command = program(env!("CARGO_BIN_EXE_benchmark"), folder.path());
    let again = command.args(["--report", "results", "--set", "set.jsonl", "--output", "again"]).output();
    let again = again.expect("the program starts");
    assert!(stdout(&again).contains("report.html"), "{}", stderr(&again));
    let read = |from: &str, name: &str| fs::read_to_string(folder.path().join(from).join(name)).expect("there");
    for name in ["report.html", "report.md", "results.json"] {
        assert_eq!(read("results", name), read("again", name), "{name}: stored predictions give the same page");
    }
    let page = read("again", "report.html");
    assert!(page.contains("<mark>alert(4242)</mark>") && page.contains("‹U+202E›"), "the pair is shown");
    if find_browser().is_none() {
        assert!(std::env::var_os("JANUS_REQUIRE_ALL").is_none(), "Chromium is missing");
        eprintln!("SKIPPED: there is no Chromium");
        return;
    }
    // Without the policy of its own too: escaping alone must do. The last one shows that the test can fail.
    let policy = page.find("<meta http-equiv").expect("a policy");
    let end = policy + page[policy..].find('>').expect("its end") + 1;
    let bare = format!("{}{}", &page[..policy], &page[end..]);
    let broken = bare.replace("&lt;", "<").replace("&gt;", ">").replace("&#x2f;", "/");
    let pairs = [page, bare, broken].map(|page| {
        let response = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{page}");
        HttpPair::parse("GET / HTTP/1.1\r\nHost: r.example\r\n\r\n", response).expect("valid")
    });
    let tests: Vec<PayloadTest<'_>> =
        pairs.iter().map(|pair| PayloadTest { pair, argument: "4242", expected: false }).collect();
    let outcomes = Browser::launch(1).and_then(|mut browser| browser.payloads(&tests)).expect("Chromium answers");
    assert_eq!(outcomes, [Outcome::DidNotRun, Outcome::DidNotRun, Outcome::Ran]);
}
