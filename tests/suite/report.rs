//! The report of results whose every field is hostile, in Chromium.

use std::{fs, path::Path};

use janus_data::{Origin, Sample};
use janus_eval::{
    Cost, Curve, Curves, LabelledSet, Prediction, Report, ResultFolder, Results, TrainingRun, WrittenAnalysis,
};
use janus_http::{Claim, HttpPair, VulnCategory};
use janus_synth::{Browser, find_browser};

/// What would run, load, end an element or be evaluated if it were not shown as text. The page's probe reports calls.
const HOSTILE: [&str; 12] = [
    "<script>alert('script')</script>",
    "\"><img src=x onerror=alert('image')>",
    "' onmouseover=alert('handler') onclick=alert('click') x='",
    "</pre></details></title></style><script>alert('closed')</script>",
    "</style><style>body{background:url(https://evil.example/style)}</style>",
    "]]><svg onload=alert('svg')><a href=\"javascript:alert('link')\">x</a></svg>",
    "<link rel=stylesheet href=https://evil.example/sheet><base href=https://evil.example/>",
    "<meta http-equiv=refresh content=\"0;url=https://evil.example/\"><iframe src=https://evil.example/frame></iframe>",
    "{{ 7 * 191 }}{% for one in sections %}{{ one }}{% endfor %}{# note #}",
    "--><!-- <textarea><plaintext><noscript><img src=https://evil.example/image>",
    "\u{202e}desrever\u{202c}\u{200b}\u{0}\u{1b}[31m\u{feff}\u{2028}",
    "&lt;script&gt;alert('entity')&lt;/script&gt; &#60;img src=x onerror=alert('number')&#62;",
];

fn all() -> String {
    HOSTILE.join(" ")
}

/// A pair with hostile text in start lines, headers and body, bytes that are no UTF-8, and a line of 5 MB.
fn sample(id: &str, is_vulnerable: bool) -> Sample {
    let line = HOSTILE.map(|text| text.replace(['\r', '\n'], " ")).join(" ");
    let mut request =
        format!("POST /?q={} HTTP/1.1\r\nHost: a.example\r\nX-Note: {line}\r\n\r\n", line.replace(' ', "+"));
    request.push_str(&format!("value={}", all()));
    let mut response =
        format!("HTTP/1.1 200 OK {line}\r\nContent-Type: text/html; charset=utf-8\r\nX-Note: {line}\r\n\r\n")
            .into_bytes();
    response.extend(b"\xc0\xfe\x80broken\xc3\x28");
    response.extend(std::iter::repeat_n(b'A', 5 << 20));
    response.extend(all().bytes());
    Sample {
        id: id.to_owned(),
        pair: HttpPair::parse(request, response).expect("two messages"),
        claim: Claim::new(VulnCategory::Xss)
            .with_text(all())
            .with_parameter(all())
            .with_header("X-Note")
            .with_evidence(HOSTILE[0]),
        analysis: all(),
        is_vulnerable,
        origin: Origin { kind: Some(all()), ..Origin::default() },
    }
}

/// A results folder with hostile text in every field, written to disk and read back as a user's would be.
fn folder(path: &Path, samples: &[Sample]) -> ResultFolder {
    let system = format!("base-FT-PE-CH {}", all());
    let mut files = [String::new(), String::new(), String::new()];
    let mut push = |file: usize, json: serde_json::Result<String>| files[file] += &(json.expect("JSON") + "\n");
    for (index, sample) in samples.iter().enumerate() {
        for name in [&system, "control: majority"] {
            let prediction = Prediction {
                system: name.to_owned(),
                part: all(),
                id: sample.id.clone(),
                group: all(),
                category: VulnCategory::Xss,
                kind: sample.origin.kind.clone(),
                hard: None,
                words_seen: None,
                kind_seen: None,
                is_vulnerable: sample.is_vulnerable,
                p_vulnerable: (index != 1).then_some(0.3 + 0.02 * index as f64),
                called: (index != 1).then_some(index % 3 == 0),
                error: (index == 1).then(all),
            };
            push(0, serde_json::to_string(&prediction));
        }
        let (system, id) = (system.clone(), sample.id.clone());
        let cost = Cost {
            system: system.clone(),
            id: id.clone(),
            prompt_tokens: usize::MAX,
            generated_tokens: 7 + index,
            seconds: 1.0,
            peak_mb: 1,
        };
        push(1, serde_json::to_string(&cost));
        let text = all() + &"5 MB of one line. ".repeat(300_000);
        let category = VulnCategory::Xss;
        let written = WrittenAnalysis {
            system,
            part: all(),
            id,
            category,
            text,
            ended: true,
            quotes: [0, 1],
            called: Some(true),
            read_as: None,
        };
        push(2, serde_json::to_string(&written));
    }
    for (name, text) in ["predictions.jsonl", "costs.jsonl", "analyses.jsonl"].iter().zip(files) {
        fs::write(path.join(name), text).expect("written");
    }
    ResultFolder { name: all(), ..ResultFolder::read(path).expect("readable") }
}

fn hostile_report() -> Report {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let mut samples: Vec<Sample> = (0..3).map(|index| sample(&format!("{index} {}", all()), index % 2 == 0)).collect();
    // Enough for sentences; their pairs are small.
    samples.extend((3..24).map(|index| Sample {
        pair: HttpPair::parse("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n").expect("two messages"),
        ..sample(&format!("{index} {}", all()), index % 2 == 0)
    }));
    let folder = folder(temporary.path(), &samples);
    let set = LabelledSet { name: all(), samples, training: Vec::new() };
    let chart = Curves {
        title: all(),
        x_label: all(),
        y_label: all(),
        curves: vec![Curve { name: all(), points: vec![(0.0, 1.0), (1.0, 0.5)] }],
        marks: Vec::new(),
    };
    let run = TrainingRun { name: all(), charts: vec![(all(), chart)] };
    let report = Report::of(&[folder], &[run], &[set]);
    report.write(temporary.path()).expect("names of charts are plain");
    let json = fs::read_to_string(temporary.path().join("results.json")).expect("written");
    assert_eq!(&serde_json::from_str::<Results>(&json).expect("JSON"), report.results());
    report
}

#[test]
fn hostile_content_runs_nothing_and_is_shown_as_text() {
    if find_browser().is_none() {
        assert!(std::env::var_os("JANUS_REQUIRE_ALL").is_none(), "Chromium is missing");
        eprintln!("SKIPPED: there is no Chromium");
        return;
    }
    let page = hostile_report().html().expect("a page");
    assert!(page.len() < 4 << 20, "{} bytes", page.len());
    let mut browser = Browser::launch(1).expect("Chromium starts");
    // The probe sees what the texts do where they are not escaped.
    let raw = browser.open(&format!("<!DOCTYPE html><title>x</title>{}{}", HOSTILE[1], HOSTILE[0])).expect("opened");
    assert_eq!(raw.ran.iter().filter(|said| ["script", "image"].contains(&said.as_str())).count(), 2, "{raw:?}");
    assert!(!raw.requests.is_empty(), "an image was asked for: {raw:?}");
    // Escaping alone must hold, without the page's policy too.
    let policy = page.find("<meta http-equiv=\"Content-Security-Policy\"").expect("a policy");
    let end = policy + page[policy..].find('>').expect("an end");
    let without = format!("{}{}", &page[..policy], &page[end + 1..]);
    for page in [&page, &without] {
        let opened = browser.open(page).expect("opened");
        assert!(opened.ran.is_empty(), "{:?}", opened.ran);
        let other = opened.requests.iter().find(|(_, target)| target != "/favicon.ico");
        assert_eq!(other, None, "the page asked for something");
        for text in HOSTILE.iter().filter(|text| !text.contains('\u{202e}')) {
            assert!(opened.text.contains(text), "{text} is not shown");
        }
        assert!(
            opened.text.contains("⟨U+202E⟩desrever") && opened.text.contains("␀␛[31m"),
            "hidden characters are shown"
        );
        assert!(!opened.text.contains(['\u{202e}', '\u{200b}', '\u{feff}']), "no text is turned");
        assert!(opened.text.contains("\u{fffd}\u{fffd}\u{fffd}broken"), "broken bytes are marked");
        assert!(opened.text.contains("bytes left out"), "long lines are cut with a note");
    }
}

#[test]
fn the_same_results_give_the_same_bytes() {
    let (first, second) = (hostile_report(), hostile_report());
    assert_eq!(first.html().expect("a page"), second.html().expect("a page"));
    assert_eq!((first.markdown(), first.json().expect("JSON")), (second.markdown(), second.json().expect("JSON")));
}

#[test]
fn markdown_holds_no_markup_of_others() {
    let text = hostile_report().markdown();
    assert!(!text.contains("<script") && !text.contains("<img") && !text.contains("](javascript"), "{text}");
}
