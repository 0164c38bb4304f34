//! What headers do in Chromium, for the kinds of claim whose effect a page can feel.

use janus_http::{HttpPair, StartLine};

use super::{Browser, own_host, reframed};
use crate::{Error, Result};

/// A pair and the kind of claim that is made about it.
#[derive(Debug, Clone, Copy)]
pub struct HeaderTest<'a> {
    /// The pair.
    pub pair: &'a HttpPair,
    /// The kind of claim, as of [`crate::policy`].
    pub kind: &'a str,
}

/// The kinds whose effect can be observed.
pub const OBSERVABLE: [&str; 17] = [
    "csp-missing",
    "csp-unsafe-inline",
    "csp-report-only",
    "csp-unsafe-eval",
    "csp-wildcard",
    "csp-base-uri",
    "framing",
    "nosniff",
    "referrer-policy-unsafe",
    "coop",
    "corp",
    "cors-reflection",
    "cors-null",
    "cors-wildcard",
    "cookie-httponly",
    "cookie-secure",
    "cookie-prefix",
];

const FOREIGN: &str = "foreign-probe.example";

/// How one test goes.
struct Plan {
    /// Put behind the body of the response.
    extra: String,
    /// Pages beside it: path, body.
    pages: Vec<(String, String)>,
    /// What is opened, in turn.
    urls: Vec<String>,
    /// What is said when the claim holds, and when it does not.
    holds: String,
    fails: Option<String>,
}

impl Browser {
    /// Whether the effect that a claim asserts is there; `None` where a browser cannot tell.
    ///
    /// # Errors
    /// When Chromium is gone.
    pub fn header_effect(&mut self, test: &HeaderTest<'_>) -> Result<Option<bool>> {
        self.loads += 1;
        let number = self.loads;
        let Some(plan) = plan(test, number) else { return Ok(None) };
        let path = format!("{}/j{number}", cookie_path(test.pair));
        self.server.put(&path, reframed(test.pair.response(), &plan.extra));
        for (path, body) in &plan.pages {
            let kind = if path.ends_with(".js") { "text/javascript" } else { "text/html" };
            let page = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nCross-Origin-Resource-Policy: cross-origin\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            self.server.put(path, page.into_bytes());
        }
        let (chromium, tab) = (&self.chromium, &mut self.tabs[0]);
        let failed = |source| Error::Browser { source: Box::new(source) };
        let said = self.runtime.block_on(async {
            chromium.clear_cookies().await.map_err(failed)?;
            let mut said = Vec::new();
            for url in &plan.urls {
                let enough = |one: &str| one == plan.holds || plan.fails.as_deref() == Some(one);
                said.extend(tab.load(chromium, url, &enough, plan.fails.is_some()).await?);
            }
            Ok::<_, Error>(said)
        })?;
        let seen = self.server.take_seen("");
        self.server.remove(&path);
        plan.pages.iter().for_each(|(path, _)| self.server.remove(path));
        Ok(match test.kind {
            "referrer-policy-unsafe" => {
                let asked = seen.iter().find(|seen| seen.target == format!("/r{number}"));
                asked.map(|seen| seen.referer.as_deref().is_some_and(|referer| referer.contains(&path)))
            }
            "cookie-httponly" => {
                let cookies = said.iter().find_map(|one| one.strip_prefix("cookie "));
                cookies.map(|cookies| cookies.contains(&plan.holds))
            }
            "cookie-secure" => seen
                .iter()
                .find(|seen| seen.target.ends_with(&format!("/k{number}")))
                .map(|seen| seen.cookie.as_deref().is_some_and(|cookie| cookie.contains(&plan.holds))),
            "cookie-prefix" => seen
                .iter()
                .find(|seen| seen.target.ends_with(&format!("/k{number}")))
                .map(|seen| !seen.cookie.as_deref().is_some_and(|cookie| cookie.contains(&plan.holds))),
            _ => match plan.fails {
                Some(fails) if said.contains(&fails) => Some(false),
                Some(_) => said.contains(&plan.holds).then_some(true),
                None => Some(said.contains(&plan.holds)),
            },
        })
    }
}

/// The folder in which the first cookie of a response is seen: its `Path`, empty for `/` and for none.
fn cookie_path(pair: &HttpPair) -> String {
    let cookie = pair.response().headers_named("set-cookie").next();
    let path = cookie.and_then(|cookie| {
        let mut fields = cookie.value.split(';').filter_map(|field| field.split_once('='));
        fields.find(|(name, _)| name.trim().eq_ignore_ascii_case("path")).map(|(_, path)| path.trim().to_owned())
    });
    path.filter(|path| path.starts_with('/')).unwrap_or_default().trim_end_matches('/').to_owned()
}

fn plan(test: &HeaderTest<'_>, number: u64) -> Option<Plan> {
    let host = own_host(test.pair);
    let folder = cookie_path(test.pair);
    let url = format!("https://{host}{folder}/j{number}");
    let response = test.pair.response();
    let json = response.header("content-type").is_some_and(|value| value.contains("json"));
    let ran = "ran 424242".to_owned();
    let alone =
        |extra: String, holds: String| Plan { extra, pages: Vec::new(), urls: vec![url.clone()], holds, fails: None };
    let harness = |origin: &str, body: String| Plan {
        extra: String::new(),
        pages: vec![(format!("/h{number}"), body)],
        urls: vec![format!("{origin}/h{number}")],
        holds: "ran yes".to_owned(),
        fails: Some("ran no".to_owned()),
    };
    let cookie = response.header("set-cookie").and_then(|value| value.split('=').next().map(|name| format!("{name}=")));
    let session = cookie.clone().filter(|name| {
        !["theme=", "lang=", "currency=", "sidebar=", "tz=", "cookie_consent=", "XSRF-TOKEN="].contains(&name.as_str())
    });
    let foreign = format!("https://{FOREIGN}");
    let read = |url: &str, credentials: &str| {
        format!(
            "<script>fetch('{url}',{{credentials:'{credentials}'}}).then(r=>r.text()).then(()=>janusSay('ran yes'),()=>janusSay('ran no'))</script>"
        )
    };
    Some(match test.kind {
        "csp-missing" | "csp-unsafe-inline" | "csp-report-only" => {
            alone("<script>alert(424242)</script>".to_owned(), ran)
        }
        "csp-unsafe-eval" => alone(String::new(), "eval".to_owned()),
        "csp-wildcard" => {
            let script = format!(
                "<script src=\"https://{FOREIGN}/p{number}.js\"></script><script src=\"data:text/javascript,alert(424242)\"></script>"
            );
            Plan { pages: vec![(format!("/p{number}.js"), "alert(424242)".to_owned())], ..alone(script, ran) }
        }
        "csp-base-uri" => alone(
            "<base href=\"https://base-probe.example/\">".to_owned(),
            "base https://base-probe.example/".to_owned(),
        ),
        "framing" if !json => {
            let page = format!("<iframe src=\"{url}\"></iframe>");
            Plan { holds: format!("document frame {url}"), fails: None, ..harness(&foreign, page) }
        }
        "nosniff" => harness(
            &format!("https://{host}"),
            format!(
                "<script src=\"{folder}/j{number}\" onload=\"janusSay('ran yes')\" onerror=\"janusSay('ran no')\"></script>"
            ),
        ),
        "referrer-policy-unsafe" => alone(format!("<img src=\"https://{FOREIGN}/r{number}\">"), String::new()),
        // The window is ours to look into until the page is there; then it is cut off, or only foreign.
        "coop" => harness(
            &foreign,
            format!(
                "<script>const w=open('{url}');let left=400,foreign=0;const t=setInterval(()=>{{const cut=!w||w.closed;\
                 try{{w.location.href}}catch(e){{foreign++}}if(cut||foreign>5||!--left){{clearInterval(t);\
                 try{{w.close()}}catch(e){{}}janusSay(cut?'ran no':'ran yes')}}}},25)</script>"
            ),
        ),
        "corp" => harness(
            &foreign,
            format!(
                "<script>fetch('{url}',{{mode:'no-cors'}}).then(()=>janusSay('ran yes'),()=>janusSay('ran no'))</script>"
            ),
        ),
        "cors-reflection" => {
            let origin = test.pair.request().header("origin")?.into_owned();
            harness(&origin, read(&url, "include"))
        }
        "cors-null" => {
            let mut plan = harness(&foreign, format!("<iframe sandbox=\"allow-scripts\" src=\"/i{number}\"></iframe>"));
            plan.pages.push((format!("/i{number}"), read(&url, "include")));
            plan
        }
        "cors-wildcard" => {
            let StartLine::Request { target, .. } = test.pair.request().start_line() else { return None };
            if target.contains("currencies") {
                return None;
            }
            harness(&foreign, read(&url, "omit"))
        }
        "cookie-httponly" => alone(String::new(), session?),
        "cookie-secure" => Plan {
            urls: vec![url.clone(), format!("http://{host}{folder}/k{number}")],
            ..alone(String::new(), session?)
        },
        "cookie-prefix" => Plan {
            urls: vec![url.clone(), format!("https://{host}{folder}/k{number}")],
            ..alone(String::new(), cookie?)
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_headers_do_is_seen_on_both_sides() {
        if super::super::find().is_none() {
            assert!(std::env::var_os("JANUS_REQUIRE_ALL").is_none(), "Chromium is missing");
            eprintln!("SKIPPED: there is no Chromium");
            return;
        }
        let evil = "Origin: https://evil.test\r\n";
        let cases = [
            ("csp-unsafe-inline", "", "Content-Security-Policy: script-src 'self' 'unsafe-inline'", true),
            ("csp-unsafe-inline", "", "Content-Security-Policy: script-src 'self'", false),
            ("csp-unsafe-eval", "", "Content-Security-Policy: script-src 'unsafe-eval'", true),
            ("csp-unsafe-eval", "", "Content-Security-Policy: script-src 'self'", false),
            ("csp-wildcard", "", "Content-Security-Policy: script-src https:", true),
            ("csp-wildcard", "", "Content-Security-Policy: script-src 'self'; img-src *", false),
            ("csp-base-uri", "", "Content-Security-Policy: default-src 'none'", true),
            ("csp-base-uri", "", "Content-Security-Policy: base-uri 'none'", false),
            ("framing", "", "X-Frame-Options: ALLOW-FROM https://a.example", true),
            ("framing", "", "X-Frame-Options: SAMEORIGIN", false),
            ("nosniff", "", "X-Content-Type-Options: no-sniff", true),
            ("nosniff", "", "X-Content-Type-Options: NoSniff", false),
            ("referrer-policy-unsafe", "", "Referrer-Policy: unsafe-url", true),
            ("referrer-policy-unsafe", "", "Referrer-Policy: unsafe-url, origin", false),
            ("coop", "", "Cross-Origin-Opener-Policy: unsafe-none", true),
            ("coop", "", "Cross-Origin-Opener-Policy: same-origin", false),
            ("corp", "", "Cross-Origin-Resource-Policy: cross-origin", true),
            ("corp", "", "Cross-Origin-Resource-Policy: same-origin", false),
            (
                "cors-reflection",
                evil,
                "Access-Control-Allow-Origin: https://evil.test\r\nAccess-Control-Allow-Credentials: true",
                true,
            ),
            (
                "cors-reflection",
                evil,
                "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true",
                false,
            ),
            ("cors-null", "", "Access-Control-Allow-Origin: null\r\nAccess-Control-Allow-Credentials: true", true),
            ("cors-null", "", "Access-Control-Allow-Origin: NULL\r\nAccess-Control-Allow-Credentials: true", false),
            ("cookie-httponly", "", "Set-Cookie: sid=1; Secure", true),
            ("cookie-httponly", "", "Set-Cookie: sid=1; httponly", false),
            ("cookie-httponly", "", "Set-Cookie: sid=1; Path=/httponly; Secure", true),
            ("cookie-secure", "", "Set-Cookie: sid=1; HttpOnly", true),
            ("cookie-secure", "", "Set-Cookie: sid=1; SECURE", false),
            // What the page itself asks for is not mistaken for the probe.
            ("cookie-secure", "", "Link: </kade.png>; rel=preload; as=image\r\nSet-Cookie: sid=1; Path=/secure", true),
            (
                "csp-wildcard",
                "",
                "Cross-Origin-Embedder-Policy: require-corp\r\nContent-Security-Policy: script-src *",
                true,
            ),
            ("cookie-prefix", "", "Set-Cookie: __Host-sid=1; Secure; Path=/a", true),
            ("cookie-prefix", "", "Set-Cookie: __Host-sid=1; Secure; Path=/", false),
        ];
        let mut browser = Browser::launch(1).expect("Chromium starts");
        for (kind, request, head, expected) in cases {
            let pair = HttpPair::parse(
                format!("GET / HTTP/1.1\r\nHost: shop.example\r\n{request}\r\n"),
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{head}\r\n\r\n<p>hi</p>"),
            );
            let pair = pair.expect("valid");
            let effect = browser.header_effect(&HeaderTest { pair: &pair, kind }).expect("Chromium answers");
            assert_eq!(effect, Some(expected), "{kind} {head}");
        }
    }
}
