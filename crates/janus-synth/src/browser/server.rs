//! A loopback server that answers with stored responses, their headers as they are and only their length told anew.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use janus_http::Message;
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};

use crate::{Error, Result};

/// What a request asked for and carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub host: String,
    pub target: String,
    pub cookie: Option<String>,
    pub referer: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    pages: HashMap<String, Vec<u8>>,
    seen: Vec<Seen>,
}

/// The server. It ends with the process.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub https: SocketAddr,
    pub http: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(super) fn start() -> Result<Self> {
        let io = |source| Error::Loopback { source };
        let state: Arc<Mutex<State>> = Arc::default();
        let tls = tls().map_err(|reason| io(std::io::Error::other(reason)))?;
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io);
        let (https, http) = (bind()?, bind()?);
        let server =
            Self { https: https.local_addr().map_err(io)?, http: http.local_addr().map_err(io)?, state: state.clone() };
        for (listener, tls) in [(https, Some(tls)), (http, None)] {
            let state = state.clone();
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (state, tls) = (state.clone(), tls.clone());
                    thread::spawn(move || {
                        let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
                        let _ = stream.set_nodelay(true);
                        let _ = match tls {
                            Some(tls) => ServerConnection::new(tls)
                                .map(|tls| serve(StreamOwned::new(tls, stream), &state))
                                .unwrap_or(Ok(())),
                            None => serve(Plain(stream), &state),
                        };
                    });
                }
            });
        }
        Ok(server)
    }

    /// Serves these bytes under a path of any host.
    pub(super) fn put(&self, path: &str, response: Vec<u8>) {
        self.lock().pages.insert(path.to_owned(), response);
    }

    pub(super) fn remove(&self, path: &str) {
        self.lock().pages.remove(path);
    }

    /// What was asked for under paths that contain this, taken out.
    pub(super) fn take_seen(&self, part: &str) -> Vec<Seen> {
        let mut state = self.lock();
        let (taken, left) = state.seen.drain(..).partition(|seen| seen.target.contains(part));
        state.seen = left;
        taken
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A certificate for this run; the browser is told not to check it.
fn tls() -> std::result::Result<Arc<ServerConfig>, String> {
    let made =
        rcgen::generate_simple_self_signed(vec!["janus.example".to_owned()]).map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(str::to_owned)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key))
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(config))
}

struct Plain(TcpStream);

impl Read for Plain {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Plain {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

fn serve(stream: impl Read + Write, state: &Mutex<State>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut lines: Vec<String> = Vec::new();
        loop {
            let mut line = Vec::new();
            if stream.by_ref().take(1 << 16).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let field = |name: &str| {
            lines
                .iter()
                .skip(1)
                .filter_map(|line| line.split_once(':'))
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim().to_owned())
        };
        let length: u64 = field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        std::io::copy(&mut stream.by_ref().take(length), &mut std::io::sink())?;
        let target = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("/").to_owned();
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let host = field("host").unwrap_or_default();
        let answer = {
            let mut state = state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            state.seen.push(Seen { host, target, cookie: field("cookie"), referer: field("referer") });
            state.pages.get(&path).cloned()
        };
        // Nothing else is there, and a browser that is sent nowhere stays where it is.
        let answer = answer.unwrap_or_else(|| b"HTTP/1.1 204 No Content\r\n\r\n".to_vec());
        stream.get_mut().write_all(&answer)?;
        stream.get_mut().flush()?;
    }
}

/// A stored response as HTTP/1.1 with its own headers, its body decoded and its length told anew.
pub(super) fn reframed(response: &Message, extra: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let status = response.status().unwrap_or(200);
    out.extend_from_slice(format!("HTTP/1.1 {status} X\r\n").as_bytes());
    const FRAMING: [&str; 6] =
        ["content-length", "transfer-encoding", "content-encoding", "connection", "keep-alive", "trailer"];
    for header in
        response.headers().iter().filter(|header| !FRAMING.iter().any(|name| header.name.eq_ignore_ascii_case(name)))
    {
        out.extend_from_slice(format!("{}: {}\r\n", header.name, header.value).as_bytes());
    }
    let body = response.decoded_body();
    if matches!(status, 204 | 304) {
        out.extend_from_slice(b"\r\n");
        return out;
    }
    out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.bytes.len() + extra.len()).as_bytes());
    out.extend_from_slice(&body.bytes);
    out.extend_from_slice(extra.as_bytes());
    out
}
