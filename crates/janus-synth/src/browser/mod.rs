//! What Chromium does with a pair: whether a payload runs, and what headers do.
//!
//! Headless, with a fresh profile, every host resolved to a loopback server that sends the response with its own
//! headers; links are not followed; clicks, hovering and focus are made by a script that was there before the page's
//! own. A payload is known by the argument of its call. Each pair is loaded twice, and both must agree.

mod headers;
mod opened;
mod server;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use chromiumoxide::{
    Browser as Chromium, Page,
    browser::BrowserConfig as ChromiumConfig,
    cdp::{
        browser_protocol::page::{
            EventJavascriptDialogOpening, EventLoadEventFired, HandleJavaScriptDialogParams, NavigateParams,
        },
        browser_protocol::{emulation::SetFocusEmulationEnabledParams, target::CreateTargetParams},
        js_protocol::runtime::{AddBindingParams, EventBindingCalled},
    },
};
use futures::{FutureExt, StreamExt, future};
use janus_http::HttpPair;
use tokio::runtime::Runtime;

use crate::{Error, Result};
pub use headers::{HeaderTest, OBSERVABLE};
pub use opened::Opened;
use server::{Server, reframed};

/// How long a page may take, in milliseconds.
const TIME_LIMIT: u64 = 5_000;
/// How long is waited for the script behind a load, in milliseconds: a page without script never reports.
const AFTER_LOAD: u64 = 350;

/// How long a probe waits behind its clicks, in milliseconds; the second is for pages whose loads did not agree with
/// each other or with what was expected. Such a tab waits longer in everything.
const PATIENCE: u64 = 120;
const LONG_PATIENCE: u64 = 1_000;

/// How often such a page is loaded alone.
const PATIENT_LOADS: usize = 4;

/// What a browser did with a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It ran, twice in two loads, or twice in four patient ones.
    Ran,
    /// It never ran.
    DidNotRun,
    /// It ran once in four patient loads.
    Unstable,
}

/// A pair with the argument that tells its payload's call.
#[derive(Debug, Clone, Copy)]
pub struct PayloadTest<'a> {
    /// The pair.
    pub pair: &'a HttpPair,
    /// The argument.
    pub argument: &'a str,
    /// Whether it is expected to run. A slow moment can keep a payload from running, never make one run: one that was
    /// expected and did not run is looked at again, alone.
    pub expected: bool,
}

/// A running Chromium.
pub struct Browser {
    runtime: Runtime,
    chromium: Chromium,
    tabs: Vec<Tab>,
    /// For pairs whose two loads did not agree.
    patient: Tab,
    server: Server,
    version: String,
    loads: u64,
    _profile: tempfile::TempDir,
}

impl std::fmt::Debug for Browser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Browser").field("version", &self.version).field("loads", &self.loads).finish_non_exhaustive()
    }
}

struct Tab {
    page: Page,
    reports: chromiumoxide::listeners::EventStream<EventBindingCalled>,
    loads: chromiumoxide::listeners::EventStream<EventLoadEventFired>,
    dialogs: chromiumoxide::listeners::EventStream<EventJavascriptDialogOpening>,
    patience: u64,
}

/// Where Chromium is: `CHROMIUM` in the environment, else the usual names on the path.
pub fn find() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CHROMIUM") {
        return Some(PathBuf::from(path));
    }
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name))).find(|file| file.is_file())
}

impl Browser {
    /// Starts Chromium with so many tabs, which work side by side.
    ///
    /// # Errors
    /// When there is no Chromium, or it does not start.
    pub fn launch(tabs: usize) -> Result<Self> {
        let chromium = find().ok_or(Error::NoBrowser)?;
        let server = Server::start()?;
        let setup = |source| Error::Setup { source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(setup)?;
        let profile = tempfile::Builder::new().prefix("janus-browser-").tempdir().map_err(setup)?;
        let executable = tied(&chromium, profile.path()).map_err(setup)?;
        let failed = |source| Error::Browser { source: Box::new(source) };
        let config = config(&executable, profile.path(), &server).map_err(|reason| Error::BrowserSetup { reason })?;
        let (chromium, tabs, patient, version) = runtime.block_on(async {
            let (chromium, mut handler) = Chromium::launch(config).await.map_err(failed)?;
            tokio::spawn(async move { while handler.next().await.is_some() {} });
            let version = chromium.version().await.map_err(failed)?.product;
            let mut opened = Vec::new();
            for _ in 0..tabs.max(1) {
                opened.push(Tab::open(&chromium, PATIENCE).await?);
            }
            let patient = Tab::open(&chromium, LONG_PATIENCE).await?;
            Ok::<_, Error>((chromium, opened, patient, version))
        })?;
        Ok(Self { runtime, chromium, tabs, patient, server, version, loads: 0, _profile: profile })
    }

    /// Product and version, as `Chrome/156.0.1.2`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Loads each pair twice and says what its payload did, in the order given.
    ///
    /// # Errors
    /// When Chromium is gone.
    pub fn payloads(&mut self, tests: &[PayloadTest<'_>]) -> Result<Vec<Outcome>> {
        let mut ran = vec![[false; 2]; tests.len()];
        let jobs: Vec<(usize, usize)> = (0..tests.len()).flat_map(|test| [(test, 0), (test, 1)]).collect();
        let tabs = self.tabs.len();
        let start = self.loads;
        self.loads += jobs.len() as u64;
        let (server, chromium) = (&self.server, &self.chromium);
        let work = self.tabs.iter_mut().enumerate().map(|(at, tab)| {
            let own: Vec<_> = jobs.iter().copied().enumerate().skip(at).step_by(tabs).collect();
            async move {
                let mut found = Vec::new();
                for (number, (test, round)) in own {
                    let test_pair = &tests[test];
                    let ran = tab.runs(chromium, server, test_pair, start + number as u64).await?;
                    found.push((test, round, ran));
                }
                Ok::<_, Error>(found)
            }
        });
        let found = self.runtime.block_on(future::try_join_all(work))?;
        server.take_seen("");
        for (test, round, value) in found.into_iter().flatten() {
            ran[test][round] = value;
        }
        // A slow moment is neither instability nor a refutation.
        let open: Vec<usize> = (0..tests.len())
            .filter(|test| ran[*test][0] != ran[*test][1] || tests[*test].expected && ran[*test] == [false; 2])
            .collect();
        for test in open {
            let mut times = 0;
            for _ in 0..PATIENT_LOADS {
                self.loads += 1;
                let work = self.patient.runs(&self.chromium, &self.server, &tests[test], self.loads);
                times += usize::from(self.runtime.block_on(work)?);
                if times == 2 {
                    break;
                }
            }
            ran[test] = [times > 0, times > 1];
        }
        Ok(ran
            .into_iter()
            .map(|rounds| match rounds {
                [true, true] => Outcome::Ran,
                [false, false] => Outcome::DidNotRun,
                _ => Outcome::Unstable,
            })
            .collect())
    }
}

/// The host that a pair came from, as far as it is a name that an address can hold.
fn own_host(pair: &HttpPair) -> String {
    let host = pair.request().header("host").unwrap_or_default();
    let host = host.split([':', ',']).next().unwrap_or_default().trim().to_ascii_lowercase();
    let valid = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    if valid { host } else { "pair.example".to_owned() }
}

/// A script that starts Chromium and has the system end it when we end, however we do; Chromium itself where the system
/// has no such command.
fn tied(chromium: &Path, folder: &Path) -> std::io::Result<PathBuf> {
    if !Path::new("/usr/bin/setpriv").is_file() {
        return Ok(chromium.to_owned());
    }
    let script = folder.join("chromium.sh");
    std::fs::write(
        &script,
        format!("#!/bin/sh\nexec /usr/bin/setpriv --pdeathsig KILL '{}' \"$@\"\n", chromium.display()),
    )?;
    #[cfg(unix)]
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(script)
}

fn config(executable: &Path, profile: &Path, server: &Server) -> std::result::Result<ChromiumConfig, String> {
    let rules = format!("MAP *:443 {}, MAP *:80 {}, MAP * {}", server.https, server.http, server.https);
    let args = [
        "disable-gpu".to_owned(),
        "disable-quic".to_owned(),
        "no-first-run".to_owned(),
        "disable-component-update".to_owned(),
        "disable-sync".to_owned(),
        "disable-popup-blocking".to_owned(),
        "ignore-certificate-errors".to_owned(),
        "disable-site-isolation-trials".to_owned(),
        "disable-features=BackForwardCache,ProactivelySwapBrowsingInstance,RenderDocument,IsolateOrigins,site-per-process,HttpsUpgrades,HttpsFirstBalancedModeAutoEnable,OptimizationHints,MediaRouter,Translate,LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests".to_owned(),
        format!("host-resolver-rules={rules}"),
    ];
    ChromiumConfig::builder()
        .chrome_executable(executable)
        .no_sandbox()
        .user_data_dir(profile.join("profile"))
        .disable_cache()
        .request_timeout(Duration::from_secs(20))
        .args(args)
        .build()
}

impl Tab {
    async fn open(chromium: &Chromium, patience: u64) -> Result<Self> {
        let failed = |source| Error::Browser { source: Box::new(source) };
        // A tab behind another is slowed down and never gets the focus, so each has a window of its own.
        let target = CreateTargetParams::builder().url("about:blank").new_window(true).build();
        let target = target.map_err(|reason| Error::BrowserSetup { reason })?;
        let page = chromium.new_page(target).await.map_err(failed)?;
        page.execute(SetFocusEmulationEnabledParams::new(true)).await.map_err(failed)?;
        let reports = page.event_listener::<EventBindingCalled>().await.map_err(failed)?;
        let loads = page.event_listener::<EventLoadEventFired>().await.map_err(failed)?;
        let dialogs = page.event_listener::<EventJavascriptDialogOpening>().await.map_err(failed)?;
        page.execute(AddBindingParams::new("janusReport")).await.map_err(failed)?;
        let probe = include_str!("probe.js").replace("PATIENCE", &patience.to_string());
        page.evaluate_on_new_document(probe).await.map_err(failed)?;
        Ok(Self { page, reports, loads, dialogs, patience })
    }

    /// Whether a pair's payload runs when it is loaded once, under a number that no other load has.
    async fn runs(
        &mut self,
        chromium: &Chromium,
        server: &Server,
        test: &PayloadTest<'_>,
        number: u64,
    ) -> Result<bool> {
        let path = format!("/j{number}");
        server.put(&path, reframed(test.pair.response(), ""));
        // One host for all: another would start another process. No policy of a payload's page names it.
        let wanted = format!("ran {}", test.argument);
        let said = self.load(chromium, &format!("https://pair.example{path}"), &|said| said == wanted, false).await?;
        server.remove(&path);
        Ok(said.contains(&wanted))
    }

    /// Loads a page and gives what its probe said. Ends when `enough` was said, the probe is
    /// done (unless the end is wanted), or time is up; a tab
    /// that hangs is exchanged for a new one.
    async fn load(
        &mut self,
        chromium: &Chromium,
        url: &str,
        enough: &(dyn Fn(&str) -> bool + Sync),
        to_the_end: bool,
    ) -> Result<Vec<String>> {
        // What an earlier page still had to say is not this page's.
        while self.reports.next().now_or_never().is_some() {}
        while self.loads.next().now_or_never().is_some() {}
        while self.dialogs.next().now_or_never().is_some() {}
        let mut said: Vec<String> = Vec::new();
        let mut probed = false;
        let path = url.splitn(4, '/').nth(3).map_or(String::new(), |rest| format!("/{rest}"));
        let mut end = Instant::now() + Duration::from_millis(TIME_LIMIT);
        let navigation =
            tokio::time::timeout(Duration::from_millis(TIME_LIMIT), self.page.execute(NavigateParams::new(url))).await;
        let hung = match navigation {
            // The answer was no document: a download, a status without a body.
            Ok(Ok(answer)) if answer.result.error_text.is_some() => return Ok(said),
            Ok(Ok(_)) => false,
            Ok(Err(_)) | Err(_) => true,
        };
        if !hung {
            loop {
                let left = end.saturating_duration_since(Instant::now());
                let next = async {
                    tokio::select! {
                        biased;
                        report = self.reports.next() => report.map(|report| report.payload.clone()),
                        dialog = self.dialogs.next() => dialog.map(|dialog| format!("dialog {}", dialog.message)),
                        load = self.loads.next() => load.map(|_| "load".to_owned()),
                    }
                };
                let Ok(Some(report)) = tokio::time::timeout(left, next).await else { break };
                if let Some(message) = report.strip_prefix("dialog ") {
                    let _ = self.page.execute(HandleJavaScriptDialogParams::new(true)).await;
                    said.push(format!("ran {message}"));
                } else if report == "load" {
                    // Where the probe does not work, no script does: there is nothing to wait for.
                    if !probed {
                        let wait = AFTER_LOAD * self.patience / PATIENCE;
                        end = end.min(Instant::now() + Duration::from_millis(wait));
                    }
                } else if let Some((page, report)) = report.split_once(' ')
                    && (page == path || page.is_empty())
                {
                    probed |= report.starts_with("document top");
                    said.push(report.to_owned());
                }
                if said.last().is_some_and(|last| last == "done" && !to_the_end || enough(last)) {
                    break;
                }
            }
        }
        if hung {
            let fresh = Self::open(chromium, self.patience).await?;
            let stuck = std::mem::replace(self, fresh);
            tokio::spawn(stuck.page.close());
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_runs_is_told_from_one_that_does_not() {
        if find().is_none() {
            assert!(std::env::var_os("JANUS_REQUIRE_ALL").is_none(), "Chromium is missing");
            eprintln!("SKIPPED: there is no Chromium");
            return;
        }
        let pair = |head: &str, body: &str| {
            HttpPair::parse("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n", format!("HTTP/1.1 {head}\r\n\r\n{body}"))
                .expect("valid")
        };
        let html = "200 OK\r\nContent-Type: text/html";
        let cases = [
            (html, "<p><script>alert(4711)</script>", true),
            (html, "<p><script>alert(12)</script>", false),
            (html, "<p>&lt;script>alert(4711)</script>", false),
            (html, "<a href=\"javascript:alert(4711)\">x</a>", true),
            (html, "<b onmouseover=alert(4711)>x</b>", true),
            (html, "<input onfocus=alert(4711)>", true),
            (html, "<iframe src=javascript:alert(4711)></iframe>", true),
            (html, "<iframe srcdoc='<script>alert(4711)</script>'></iframe>", true),
            (html, "<textarea><script>alert(4711)</script></textarea>", false),
            (html, "<a href=\"https://other.example/\">x</a><img src=x onerror=alert(4711)>", true),
            (
                "200 OK\r\nContent-Type: text/html\r\nContent-Security-Policy: script-src 'self'",
                "<script>alert(4711)</script>",
                false,
            ),
            (
                "200 OK\r\nContent-Type: text/html\r\nContent-Security-Policy: sandbox",
                "<script>alert(4711)</script>",
                false,
            ),
            ("200 OK\r\nContent-Type: application/json", "{\"a\":\"<script>alert(4711)</script>\"}", false),
            (
                "200 OK\r\nContent-Type: text/html\r\nContent-Disposition: attachment",
                "<script>alert(4711)</script>",
                false,
            ),
            ("302 Found\r\nContent-Type: text/html\r\nLocation: /login", "<script>alert(4711)</script>", false),
            ("204 No Content", "", false),
            ("404 Not Found", "<script>alert(4711)</script>", true),
        ];
        let pairs: Vec<_> = cases.iter().map(|(head, body, _)| pair(head, body)).collect();
        let tests: Vec<_> = pairs
            .iter()
            .zip(&cases)
            .map(|(pair, case)| PayloadTest { pair, argument: "4711", expected: case.2 })
            .collect();
        let mut browser = Browser::launch(2).expect("Chromium starts");
        assert!(browser.version().contains("Chrome/"), "{}", browser.version());
        let outcomes = browser.payloads(&tests).expect("Chromium answers");
        for ((head, body, runs), outcome) in cases.iter().zip(outcomes) {
            let expected = if *runs { Outcome::Ran } else { Outcome::DidNotRun };
            assert_eq!(outcome, expected, "{head} {body}");
        }
    }
}
