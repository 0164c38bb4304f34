//! A page that is opened as it is: what it does, asks for and shows.

use super::Browser;
use crate::{Error, Result};

/// What a page did when it was opened, clicked, hovered and focused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The arguments of calls of `alert`, `confirm`, `prompt` and `print`.
    pub ran: Vec<String>,
    /// What it asked for beside itself: host and target. Requests to Google's hosts are left out: Chromium makes them of
    /// its own accord.
    pub requests: Vec<(String, String)>,
    /// Its text, also of what is folded away.
    pub text: String,
}

impl Browser {
    /// Opens a page of HTML, under no policy but its own.
    ///
    /// # Errors
    /// When Chromium is gone, or the page cannot be read.
    pub fn open(&mut self, page: &str) -> Result<Opened> {
        self.loads += 1;
        let path = format!("/o{}", self.loads);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n", page.len());
        self.server.take_seen("");
        self.server.put(&path, [head.as_bytes(), page.as_bytes()].concat());
        let failed = |source| Error::Browser { source: Box::new(source) };
        let (chromium, tab) = (&self.chromium, &mut self.patient);
        let (said, text) = self.runtime.block_on(async {
            let said = tab.load(chromium, &format!("https://page.example{path}"), &|_| false, true).await?;
            let text = tab.page.evaluate("document.documentElement.textContent").await.map_err(failed)?;
            Ok::<_, Error>((said, text.into_value::<String>().unwrap_or_default()))
        })?;
        self.server.remove(&path);
        let own = |host: &str| ["googleapis.com", "google.com", "gvt1.com"].iter().any(|known| host.ends_with(known));
        let seen = self.server.take_seen("").into_iter();
        let seen = seen.filter(|seen| seen.target != path && !own(seen.host.split(':').next().unwrap_or_default()));
        Ok(Opened {
            ran: said.iter().filter_map(|one| one.strip_prefix("ran ")).map(str::to_owned).collect(),
            requests: seen.map(|seen| (seen.host, seen.target)).collect(),
            text,
        })
    }
}
