//! A stranger's program: assess one finding with nothing but janus-core and janus-hub.

use std::path::PathBuf;

use janus_core::{Claim, HttpPair, Janus, VulnCategory};
use janus_hub::{DEFAULT_BASE, HubConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_else(|| DEFAULT_BASE.to_owned());
    let bundle = args.next().map_or(PathBuf::from("datasets/bundles/http-v1"), PathBuf::from);
    let base = janus_hub::resolve(&name, &HubConfig::from_env(), &mut ())?;
    let pair = HttpPair::parse(
        "GET /search?q=%3Cscript%3Ealert(1)%3C%2Fscript%3E HTTP/1.1\r\nHost: shop.example\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>Results for <script>alert(1)</script></p>",
    )?;
    let claim = Claim::new(VulnCategory::Xss).with_parameter("q").with_text("Cross Site Scripting (Reflected)");
    let verdict = Janus::load(&base, &bundle)?.assess(&pair, &claim)?;
    println!("{} (p = {:.3})", verdict.label, verdict.p_vulnerable.get());
    println!("{}", verdict.analysis.unwrap_or_default());
    for evidence in &verdict.evidence {
        println!("{:?} {}..{}: {}", evidence.part, evidence.start, evidence.end, evidence.quote);
    }
    Ok(())
}
