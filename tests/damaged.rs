//! Damaged and forged input: never a panic, never memory that the input's size cannot justify, always an error that
//! says where and what. Every case is seeded; a failure prints the case that repeats it.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use janus_core::{
    Adapter, Bundle, BundleManifest, Calibrator, CategoryCalibration, ClassificationHead, DeviceChoice, HeadFacts,
    HeadInput, HeadShape, Janus, JanusConfig, LanguageModel, LoraConfig, Pooling, Precision, Thresholds,
    digest_of_model, write_tiny_model,
};
use janus_data::{error_chain, jsonl, template};
use janus_http::{Claim, Facts, Grade, HttpPair, VulnCategory, cut};
use peak_alloc::PeakAlloc;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[path = "suite/convert.rs"]
mod convert;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// One test at a time, so that the peak is its own.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

/// One seeded damage: flipped bits, a cut, a forged number, a repeated or removed piece, or a handful of noise.
fn damage(original: &[u8], seed: u64) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut bytes = original.to_vec();
    // Half of the damage goes where the structure is.
    let end = if rng.random_bool(0.5) { bytes.len().min(4096) } else { bytes.len() };
    let at = rng.random_range(0..end);
    match rng.random_range(0..6) {
        0 => (0..rng.random_range(1..8)).for_each(|_| {
            let at = rng.random_range(0..end);
            bytes[at] ^= 1 << rng.random_range(0..8);
        }),
        1 => bytes.truncate(at),
        2 => {
            let numbers = [0, 1, 0xff, 0xffff, 1 << 31, u64::from(u32::MAX), 1 << 40, u64::MAX / 8, u64::MAX];
            let forged = numbers[rng.random_range(0..numbers.len())].to_le_bytes();
            let length = if rng.random_bool(0.5) { 4 } else { 8 };
            bytes.splice(at..(at + length).min(original.len()), forged[..length].iter().copied());
        }
        3 => {
            let piece = bytes[at..(at + rng.random_range(1..64)).min(original.len())].to_vec();
            bytes.splice(at..at, piece);
        }
        4 => {
            bytes.drain(at..(at + rng.random_range(1..64)).min(original.len()));
        }
        _ => {
            let digits = *b"0123456789eE-.\"{}[]:,\n\r\0<>%&=";
            let noise: Vec<u8> =
                (0..rng.random_range(1..12)).map(|_| digits[rng.random_range(0..digits.len())]).collect();
            bytes.splice(at..at, noise);
        }
    }
    bytes
}

/// Runs `read` on `cases` damaged forms of `original`. Memory may grow by a small multiple of the input's size.
fn survive(what: &str, original: &[u8], cases: u64, slack: usize, mut read: impl FnMut(&[u8]) -> Result<(), String>) {
    let mut refused = 0;
    for seed in 0..cases {
        let bytes = damage(original, seed);
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let result = read(&bytes);
        let grown = MEMORY.peak_usage().saturating_sub(before);
        let allowed = 40 * bytes.len() + slack;
        assert!(grown <= allowed, "{what}, case {seed}: {grown} bytes of memory for {} of input", bytes.len());
        if let Err(message) = result {
            assert!(!message.trim().is_empty(), "{what}, case {seed}: an error without words");
            refused += 1;
        }
    }
    assert!(refused > cases / 50, "{what}: only {refused} of {cases} were refused, the damage does nothing");
    println!("{what}: {cases} cases, {refused} refused");
}

/// An error's words, which must name the file.
fn named(error: &dyn Error, path: &Path) -> String {
    let text = error_chain(error);
    assert!(text.contains(&*path.to_string_lossy()), "the file is not named: {text}");
    text
}

/// What a small model needs on a device, whatever its file says.
const MODEL_SLACK: usize = 4 << 20;

fn load(path: &Path) -> Result<(), String> {
    let device = DeviceChoice::Flex.init(Precision::F32).expect("always there");
    LanguageModel::load(path, &device).map(drop).map_err(|error| named(&error, path))
}

/// A folder with a golden model, of which one file is damaged.
struct Folder(tempfile::TempDir);

impl Folder {
    fn of(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for file in ["config.json", "model.safetensors"] {
            fs::copy(golden(name).join(file), folder.path().join(file)).expect("copied");
        }
        Self(folder)
    }

    fn load_with(&self, file: &str, bytes: &[u8]) -> Result<(), String> {
        fs::write(self.0.path().join(file), bytes).expect("written");
        load(self.0.path())
    }
}

#[test]
fn gguf_files() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.gguf");
    for (name, architecture, cases) in
        [("llama_rope_llama3", "llama", 3000), ("gemma3_text", "gemma3", 1000), ("phi3", "phi3", 1000)]
    {
        let original = convert::convert(&golden(name), architecture);
        survive(&format!("gguf {name}"), &original, cases, MODEL_SLACK, |bytes| {
            fs::write(&path, bytes).expect("written");
            load(&path)
        });
    }
}

#[test]
fn safetensors_files() {
    let _alone = alone();
    let original = fs::read(golden("llama/model.safetensors")).expect("there");
    let folder = Folder::of("llama");
    survive("safetensors", &original, 4000, MODEL_SLACK, |bytes| folder.load_with("model.safetensors", bytes));
}

#[test]
fn sharded_indexes() {
    let _alone = alone();
    let folder = Folder::of("llama");
    let bytes = fs::read(golden("llama/model.safetensors")).expect("there");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("valid");
    let map: serde_json::Map<_, _> =
        file.names().into_iter().map(|name| (name.to_owned(), "model.safetensors".into())).collect();
    let index = serde_json::json!({ "weight_map": map }).to_string();
    folder.load_with("model.safetensors.index.json", index.as_bytes()).expect("the whole index loads");
    survive("index", index.as_bytes(), 1000, MODEL_SLACK, |bytes| {
        folder.load_with("model.safetensors.index.json", bytes)
    });
}

#[test]
fn configurations() {
    let _alone = alone();
    for name in ["llama_rope_llama3", "gemma3_text", "smollm3", "granite"] {
        let original = fs::read(golden(name).join("config.json")).expect("there");
        let folder = Folder::of(name);
        survive(&format!("config {name}"), &original, 1250, MODEL_SLACK, |bytes| {
            folder.load_with("config.json", bytes)
        });
    }
}

#[test]
fn tokenizers_and_chat_templates() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a temporary folder");
    janus_core::write_tiny_model(folder.path(), 1).expect("written");
    let template = "{% for message in messages %}{% if message.role == 'system' and loop.first %}{{ message.content | trim }}\
                    {% else %}{{ '<|im_start|>' ~ message['role'] ~ '\\n' ~ message['content'] }}{% endif %}{% endfor %}\
                    {% if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}";
    let path = folder.path().join("chat_template.jinja");
    survive("chat template", template.as_bytes(), 1500, 16 << 20, |bytes| {
        fs::write(&path, bytes).expect("written");
        let Ok(janus) =
            Janus::load(folder.path(), JanusConfig::default()).map_err(|error| named(&error, folder.path()))
        else {
            return Err("refused at load".to_owned());
        };
        let messages = [janus_core::Message::new(janus_core::Role::User, "hello")];
        janus.chat_template().encode(&messages, janus.tokenizer()).map(drop).map_err(|error| error_chain(&error))
    });
}

#[test]
fn tokenizer_files() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a temporary folder");
    janus_core::write_tiny_model(folder.path(), 1).expect("written");
    let settings = r#"{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": [{"name": "default", "template": "{{ messages[0].content }}"}]}"#;
    fs::write(folder.path().join("tokenizer_config.json"), settings).expect("written");
    fs::write(folder.path().join("generation_config.json"), r#"{"eos_token_id": [257, 258]}"#).expect("written");
    for (file, cases) in [("tokenizer.json", 1500), ("tokenizer_config.json", 500)] {
        let path = folder.path().join(file);
        let original = fs::read(&path).expect("there");
        survive(file, &original, cases, 16 << 20, |bytes| {
            fs::write(&path, bytes).expect("written");
            let janus =
                Janus::load(folder.path(), JanusConfig::default()).map_err(|error| named(&error, folder.path()))?;
            let ids = janus.tokenizer().encode_text("text <|im_end|> é").map_err(|error| error_chain(&error))?;
            janus.tokenizer().decode(&ids).map(drop).map_err(|error| error_chain(&error))
        });
        fs::write(&path, original).expect("written");
    }
}

const PAIRS: &str = "GET /a?q=%3Cb%3E HTTP/1.1\r\nHost: a.example\r\nCookie: a=b\r\n\r\n\n<<<<>>>>\nHTTP/1.1 200 OK\r\n\
Content-Type: text/html; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n<p><b\r\n4\r\n></p>\r\n0\r\n\r\n\n<<<<>>>>\n\
POST / HTTP/1.0\nContent-Type: application/x-www-form-urlencoded\n\na=b&c=%zz\n<<<<>>>>\nHTTP/2 404\nX: y\n z\n\nnone\n";

#[test]
fn template_files() {
    let _alone = alone();
    survive("template", PAIRS.as_bytes(), 3000, 1 << 16, |bytes| {
        template::parse(bytes).map(drop).map_err(|error| error_chain(&error))
    });
}

#[test]
fn http_messages() {
    let _alone = alone();
    let mut zipped = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\n".to_vec();
    // A gzip member with one stored block, so that damage reaches its structure.
    zipped.extend(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x01\x0c\x00\xf3\xff<p>needle</p");
    let pairs = template::parse(PAIRS.as_bytes()).expect("valid");
    let claim = Claim::new(VulnCategory::Xss).with_parameter("q").with_evidence("<b>").with_header("content-type");
    for (what, original) in [
        ("chunked message", pairs[0].response().raw()),
        ("zipped message", &zipped),
        ("folded message", pairs[1].response().raw()),
    ] {
        // Decoding may not blow up: what a stream inflates to is bounded by deflate's own ratio at this size.
        survive(what, original, 1000, 16 << 20, |bytes| {
            let pair = HttpPair::parse(pairs[0].request().raw(), bytes).map_err(|error| error.to_string())?;
            assert_eq!(pair.response().raw(), bytes);
            pair.response().text();
            cut(&pair, &claim);
            check_facts(&pair, &claim);
            Ok(())
        });
    }
    survive("request", pairs[0].request().raw(), 1000, 16 << 20, |bytes| {
        let pair = HttpPair::parse(bytes, pairs[0].response().raw()).map_err(|error| error.to_string())?;
        pair.request().parameters();
        cut(&pair, &claim);
        check_facts(&pair, &claim);
        Ok(())
    });
}

/// Reads the facts of a claim, and checks that what they point at is there.
fn check_facts(pair: &HttpPair, claim: &Claim) {
    let facts = Facts::of(pair, claim);
    assert!(facts.vector(Grade::Observation).iter().all(|value| (0.0..=1.0).contains(value)));
    let text = pair.response().text();
    for place in &facts.reflections.places {
        assert!(text.get(place.span.clone()).is_some(), "{:?} of {} bytes", place.span, text.len());
    }
    assert!(!facts.text(&[Grade::Observation, Grade::RuleVerdict]).contains('\n'));
}

#[test]
fn reflections_in_every_context() {
    let _alone = alone();
    let request = "POST /p/%3Cb%3E?q=%22%3E%3Csvg+onload%3Dalert(1)%3E HTTP/1.1\r\nHost: a.example\r\nCookie: c=';alert(1)//\r\n\
                   Content-Type: application/json\r\n\r\n{\"j\": \"</script><b>\"}";
    let response = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Security-Policy: script-src 'nonce-a', img-src *\r\n\r\n\
                    <!-- \"><svg onload=alert(1)> --><title>&quot;&gt;&lt;svg onload=alert(1)&gt;</title><p title='\"><svg onload=alert(1)>'>\
                    <script nonce=a>var a = '\\';alert(1)//', b = `${1}`; /* </script><b> */</script><svg><style></script><b></style></svg>\
                    <iframe srcdoc='&lt;script>alert(1)&lt;/script>'></iframe><textarea>\"><svg onload=alert(1)></textarea></p>";
    let claim = Claim::new(VulnCategory::Xss).with_parameter("q");
    survive("reflecting response", response.as_bytes(), 3000, 32 << 20, |bytes| {
        let pair = HttpPair::parse(request, bytes).map_err(|error| error.to_string())?;
        check_facts(&pair, &claim);
        Ok(())
    });
    survive("reflected request", request.as_bytes(), 1500, 32 << 20, |bytes| {
        let pair = HttpPair::parse(bytes, response).map_err(|error| error.to_string())?;
        check_facts(&pair, &claim);
        Ok(())
    });
}

#[test]
fn security_headers() {
    let _alone = alone();
    let response = "HTTP/1.1 302 Found\r\nStrict-Transport-Security: max-age=\"31536000\"; includeSubDomains\r\nContent-Type: text/html; charset=\"utf-8\"\r\n\
                    Content-Security-Policy: default-src 'self'; script-src 'nonce-a' *.b.example data:, frame-ancestors 'none'\r\nX-Frame-Options: DENY, SAMEORIGIN\r\n\
                    Set-Cookie: __Host-sid=a; Path=/; Secure; SameSite=None; Domain=a.example\r\nPermissions-Policy: camera=(self \"https://b.example\"), usb=()\r\n\
                    Referrer-Policy: no-referrer, unsafe-url\r\nAccess-Control-Allow-Origin: null\r\nLocation: http://10.0.0.1/\r\nServer: a/1.2\r\n\r\n\
                    <meta charset=latin1><meta http-equiv=content-security-policy content=\"script-src 'none'\">";
    let words = [
        "hsts",
        "csp inline",
        "csp wildcard",
        "csp syntax",
        "x-frame-options",
        "cookie prefix",
        "permissions-policy",
        "referrer leak",
        "cors null",
        "internal ip",
        "charset mismatch",
        "server banner",
    ];
    survive("security headers", response.as_bytes(), 3000, 16 << 20, |bytes| {
        let pair = HttpPair::parse("GET / HTTP/1.1\r\nHost: a.example\r\nOrigin: null\r\n\r\n", bytes)
            .map_err(|error| error.to_string())?;
        for text in words {
            check_facts(&pair, &Claim::new(VulnCategory::HttpHeaders).with_text(text));
        }
        Ok(())
    });
}

#[test]
fn json_lines() {
    let _alone = alone();
    let line = r#"{"id":"a","request":"GET / HTTP/1.1\r\n\r\n","response_base64":"SFRUUC8xLjEgMjAwIE9LCgr/","category":"XSS","claim":{"parameter":"q","evidence":"x"},"n":[1,{"a":null}]}"#;
    let original = format!("{line}\n{line}\n");
    survive("jsonl", original.as_bytes(), 3000, 1 << 16, |bytes| {
        let lines: Vec<_> = jsonl::read(bytes).collect();
        let errors: Vec<String> =
            lines.iter().filter_map(|line| line.finding.as_ref().err()).map(|error| error_chain(error)).collect();
        assert!(errors.iter().all(|error| error.starts_with("line ")), "{errors:?}");
        if errors.is_empty() { Ok(()) } else { Err(errors.join("\n")) }
    });
}

#[test]
fn adapters() {
    let _alone = alone();
    let device = DeviceChoice::Flex.init(Precision::F32).expect("always there");
    let model = LanguageModel::load(&golden("llama"), &device).expect("in the repository");
    for name in ["lora_r4_all", "dora_r4", "patterns"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let files = ["adapter_config.json", "adapter_model.safetensors"];
        for file in files {
            fs::copy(golden("peft").join(name).join(file), folder.path().join(file)).expect("copied");
        }
        for file in files {
            let path = folder.path().join(file);
            let original = fs::read(&path).expect("there");
            survive(&format!("{name}/{file}"), &original, 500, MODEL_SLACK, |bytes| {
                fs::write(&path, bytes).expect("written");
                Adapter::load(folder.path(), &model).map(drop).map_err(|error| named(&error, folder.path()))
            });
            fs::write(&path, original).expect("written");
        }
    }
}

#[test]
fn bundles() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_tiny_model(folder.path(), 3).expect("written");
    let janus =
        Janus::load(folder.path(), JanusConfig { precision: Precision::F32, ..JanusConfig::default() }).expect("loads");
    let model = janus.model();
    let facts = HeadFacts { text: true, observations: true, rules: false };
    let shape = HeadShape { inputs: model.decoder.config().hidden_size + facts.width(), hidden: vec![4] };
    let (zeros, ones) = (vec![0.0; shape.inputs], vec![1.0; shape.inputs]);
    let head =
        ClassificationHead::new(shape.clone(), &zeros, &ones, 1, model.decoder.compute()).expect("fits").frozen();
    let input = HeadInput { layer: 1, pooling: Pooling::Max };
    let mut manifest = BundleManifest::new(model, input, facts, shape);
    let calibrator = Calibrator::Isotonic { logits: vec![-1.0, 0.5], probabilities: vec![0.1, 0.9] };
    let thresholds = Thresholds { suppress_below: Some(0.01), confirm_above: Some(0.99) };
    let known = CategoryCalibration { calibrator, thresholds, samples: 9, share_holding: 0.5 };
    manifest.categories.insert(VulnCategory::Xss, known);
    let adapter = Adapter::new(&LoraConfig { rank: 1, ..LoraConfig::default() }, model, 1).expect("valid").frozen();
    let path = folder.path().join("bundle");
    Bundle { manifest, adapter, head, digest: String::new() }.save(&path, model).expect("written");
    let load = || Bundle::load(&path, model).map(drop).map_err(|error| named(&error, &path));
    let manifest = fs::read(path.join("manifest.json")).expect("there");
    survive("manifest.json", &manifest, 1500, MODEL_SLACK, |bytes| {
        fs::write(path.join("manifest.json"), bytes).expect("written");
        load()
    });
    // A forged manifest may vouch for anything.
    let head = path.join("head.safetensors");
    let original = fs::read(&head).expect("there");
    survive("head.safetensors", &original, 1500, MODEL_SLACK, |bytes| {
        fs::write(&head, bytes).expect("written");
        let mut forged: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
        forged["files"]["head.safetensors"] = digest_of_model(&head).expect("readable").into();
        fs::write(path.join("manifest.json"), forged.to_string()).expect("written");
        load()
    });
}
