//! Page grammars: each seed is a site of its own, with its words, its classes, its order of things and the headers of
//! its server; each page of it is drawn anew.

use crate::{
    dice::Dice,
    draft::{Draft, Framing},
    words::{self, THEMES, Theme, capital, sentence},
};

/// Headers that a stack sends by itself.
const STACKS: [&[(&str, &str)]; 12] = [
    &[
        ("Server", "nginx"),
        ("Date", "{date}"),
        ("Content-Type", "text/html; charset=utf-8"),
        ("Vary", "Accept-Encoding"),
    ],
    &[
        ("Date", "{date}"),
        ("Server", "Apache"),
        ("Last-Modified", "{date}"),
        ("Accept-Ranges", "bytes"),
        ("Content-Type", "text/html; charset=UTF-8"),
    ],
    &[
        ("Content-Type", "text/html; charset=utf-8"),
        ("Server", "Microsoft-IIS/10.0"),
        ("Date", "{date}"),
        ("Cache-Control", "private"),
    ],
    &[("Content-Type", "text/html;charset=UTF-8"), ("Content-Language", "en"), ("Date", "{date}")],
    &[
        ("X-Powered-By", "Express"),
        ("Content-Type", "text/html; charset=utf-8"),
        ("ETag", "W/\"{hex}\""),
        ("Date", "{date}"),
    ],
    &[("Date", "{date}"), ("Server", "gunicorn"), ("Content-Type", "text/html; charset=utf-8"), ("Vary", "Cookie")],
    &[
        ("Content-Type", "text/html; charset=utf-8"),
        ("X-Request-Id", "{hex}"),
        ("X-Runtime", "0.0{two}31"),
        ("Date", "{date}"),
    ],
    &[
        ("server", "cloudflare"),
        ("date", "{date}"),
        ("content-type", "text/html; charset=utf-8"),
        ("cf-ray", "{hex}-AMS"),
    ],
    &[("Date", "{date}"), ("Content-Type", "text/html"), ("Connection", "keep-alive")],
    &[("Server", "Apache-Coyote/1.1"), ("Content-Type", "text/html;charset=ISO-8859-1"), ("Date", "{date}")],
    &[("date", "{date}"), ("content-type", "text/html; charset=utf-8"), ("x-envoy-upstream-service-time", "{two}")],
    &[("Content-Type", "text/html; charset=utf-8")],
];

pub(crate) const USER_AGENTS: [&str; 9] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (compatible; MSIE 9.0; Windows NT 6.1)",
    "curl/8.5.0",
    "python-requests/2.32.3",
    "Mozilla/5.00 (Scanner; checks)",
];

/// How long a page is.
#[derive(Debug, Clone, Copy)]
enum Size {
    Bare,
    Short,
    Middle,
    Long,
}

/// A page of the site `grammar`; `dice` draws what differs from page to page.
pub fn draw(grammar: u64, seed: u64, dice: &mut Dice) -> Draft {
    // What the site is does not depend on the page.
    let mut site = Dice::new(seed, "site", grammar);
    let theme = site.pick(THEMES);
    let stack = *site.pick(&STACKS);
    let size = match site.number(0, 99) {
        0..35 => Size::Bare,
        35..75 => Size::Short,
        75..95 => Size::Middle,
        _ => Size::Long,
    };
    let style = Style {
        prefix: site.letters("abcdefghklmnprstuvw", 2),
        upper: site.percent(5),
        block: site.word(&["div", "section", "article", "main", "td", "center"]),
        doctype: site.word(&[
            "<!DOCTYPE html>\n",
            "<!doctype html>",
            "",
            "<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 4.01 Transitional//EN\">\n",
        ]),
        newline: if site.percent(60) { "\n" } else { "" },
        order: site.number(0, 3),
    };
    let body = match size {
        Size::Bare => bare(dice, theme, &style),
        Size::Short => full(dice, theme, &style, 2, 4),
        Size::Middle => full(dice, theme, &style, 6, 14),
        Size::Long => full(dice, theme, &style, 60, 120),
    };
    let date = format!(
        "{}, {:02} {} 2026 {:02}:{:02}:{:02} GMT",
        dice.pick(&["Mon", "Tue", "Wed", "Thu", "Fri"]),
        dice.number(1, 28),
        dice.pick(&["Jan", "Feb", "Mar", "May", "Jun", "Sep"]),
        dice.number(0, 23),
        dice.number(0, 59),
        dice.number(0, 59)
    );
    let hex = dice.letters("0123456789abcdef", 16);
    let two = dice.number(10, 99).to_string();
    let fill = |value: &str| value.replace("{date}", &date).replace("{hex}", &hex).replace("{two}", &two);
    let mut request_headers = vec![("User-Agent".to_owned(), (*dice.pick(&USER_AGENTS)).to_owned())];
    if dice.percent(80) {
        request_headers.push(("Accept".to_owned(), "text/html,application/xhtml+xml,*/*;q=0.8".to_owned()));
    }
    if dice.percent(40) {
        request_headers.push((
            "Accept-Language".to_owned(),
            (*dice.pick(&["en-US,en;q=0.5", "de,en;q=0.7", "fr-FR", "es", "en-GB"])).to_owned(),
        ));
    }
    let host = words::host(dice);
    if dice.percent(25) {
        request_headers.push(("Referer".to_owned(), format!("https://{host}/")));
    }
    let noun = dice.pick(theme.nouns).replace(' ', "-");
    let target = match dice.number(0, 5) {
        0 => "/".to_owned(),
        1 => format!("/{}/{noun}", theme.name),
        2 => format!("/{noun}.php"),
        3 => format!("/{}/{}", theme.name, dice.number(1, 9999)),
        4 => format!("/{noun}s"),
        _ => format!("/{}/list.{}", noun, dice.pick(&["html", "jsp", "aspx", "do", "php"])),
    };
    Draft {
        method: "GET".to_owned(),
        target,
        version: (*site.pick(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/2"])).to_owned(),
        host,
        absolute: None,
        request_headers,
        request_body: String::new(),
        status: "200 OK".to_owned(),
        headers: stack.iter().map(|(name, value)| ((*name).to_owned(), fill(value))).collect(),
        body,
        framing: *dice.pick(&[Framing::Length, Framing::Length, Framing::None, Framing::None, Framing::Chunked]),
    }
}

struct Style {
    prefix: String,
    upper: bool,
    block: &'static str,
    doctype: &'static str,
    newline: &'static str,
    order: u64,
}

fn bare(dice: &mut Dice, theme: &Theme, style: &Style) -> String {
    let line = sentence(dice, theme);
    let title = capital(dice.word(theme.nouns));
    match style.order {
        0 => format!("<html><head><title>{title}</title></head><body><p>{line}</p></body></html>"),
        1 => format!("{}<title>{title}</title>\n<h1>{title}</h1>\n<p>{line}</p>\n", style.doctype),
        2 => format!("<html><body bgcolor=\"white\"><h2>{line}</h2></body></html>"),
        _ => format!("{}<html><body>{line}<hr><p>{}</p></body></html>", style.doctype, sentence(dice, theme)),
    }
}

fn full(dice: &mut Dice, theme: &Theme, style: &Style, least: u64, most: u64) -> String {
    let n = style.newline;
    let p = &style.prefix;
    let title = format!("{} {}", capital(dice.word(theme.adjectives)), dice.pick(theme.nouns));
    let mut head = format!("<title>{title}</title>{n}");
    if dice.percent(50) {
        head.push_str(&format!("<link rel=\"stylesheet\" href=\"/{p}/main.css?v={}\">{n}", dice.number(1, 999)));
    }
    if dice.percent(40) {
        head.push_str(&format!("<meta name=\"description\" content=\"{}\">{n}", sentence(dice, theme)));
    }
    let links: Vec<String> = (0..dice.number(2, 6))
        .map(|_| dice.pick(theme.nouns))
        .map(|noun| format!("<a class=\"{p}-l\" href=\"/{}\">{}</a>", noun.replace(' ', "-"), capital(noun)))
        .collect();
    let nav = match style.order {
        0 => format!("<nav class=\"{p}-nav\">{}</nav>{n}", links.join(" | ")),
        1 => format!(
            "<ul id=\"{p}menu\">{n}{}</ul>{n}",
            links.iter().map(|link| format!("<li>{link}</li>{n}")).collect::<String>()
        ),
        2 => format!("<div class=\"{p}_top\">{}</div>{n}", links.join("")),
        _ => String::new(),
    };
    let mut blocks = String::new();
    for _ in 0..dice.number(least, most) {
        let block = style.block;
        let block = if block == "td" { "div" } else { block };
        let text = sentence(dice, theme);
        blocks.push_str(&match dice.number(0, 6) {
            0 => format!("<h2>{}</h2>{n}<p>{text} {}</p>{n}", capital(dice.word(theme.nouns)), sentence(dice, theme)),
            1 => format!("<{block} class=\"{p}-{}\"><p>{text}</p></{block}>{n}", dice.letters("abcdefgh", 3)),
            2 => format!("<table class=\"{p}t\">{n}{}</table>{n}", (0..dice.number(2, 5)).map(|_| format!("<tr><td>{}</td><td>{}</td></tr>{n}", dice.pick(theme.nouns), dice.number(1, 9000))).collect::<String>()),
            3 => format!("<ol>{}</ol>{n}", (0..dice.number(2, 4)).map(|_| format!("<li>{}</li>", sentence(dice, theme))).collect::<String>()),
            4 => format!("<form class=\"{p}f\" action=\"/{}\" method=\"get\"><label>{}</label> <input name=\"{}\"> <button>OK</button></form>{n}", dice.pick(theme.nouns).replace(' ', "-"), capital(dice.word(theme.nouns)), dice.pick(words::PARAMETERS)),
            5 => format!("<p>{text}</p>{n}<script>var {p}{} = {};</script>{n}", dice.letters("abcxyz", 3), dice.number(1, 99_999)),
            _ => format!("<p>{text} {} {}</p>{n}", sentence(dice, theme), sentence(dice, theme)),
        });
    }
    let footer = format!("<footer>{} {}</footer>{n}", capital(theme.name), dice.number(1998, 2026));
    let lang = dice.pick(&["en", "en-GB", "en-US"]);
    let page = format!(
        "{}<html lang=\"{lang}\">{n}<head>{n}{head}</head>{n}<body>{n}{nav}<h1>{title}</h1>{n}{blocks}{footer}</body>{n}</html>{n}",
        style.doctype
    );
    if style.upper {
        ["html", "head", "body", "title", "table", "form"].iter().fold(page, |page, tag| {
            page.replace(&format!("<{tag}>"), &format!("<{}>", tag.to_uppercase()))
                .replace(&format!("</{tag}>"), &format!("</{}>", tag.to_uppercase()))
        })
    } else {
        page
    }
}
