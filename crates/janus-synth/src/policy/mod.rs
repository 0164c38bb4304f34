//! The policy by which header claims are labelled: for each kind of claim the conditions under which it holds, and
//! those under which it does not, each with its reason and the clause of a standard. `docs/policy.md` is this table in
//! print. It shares no code with `janus_http::headers`.

mod confirm;
mod cookies;
mod cross_origin;
mod csp;
mod disclosure;
mod transport;

pub(crate) use self::confirm::confirms;

/// What a kind of claim needs of the page that it is made on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// A page with status 200.
    Page,
    /// A JSON answer of an API.
    Api,
    /// A redirect.
    Redirect,
}

/// A kind of claim.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// The header that a scanner may name.
    pub header: &'static str,
    /// What it is made on.
    pub needs: Needs,
    /// The clause that decides.
    pub clause: &'static str,
    /// The conditions.
    pub cases: &'static [Case],
}

/// One condition.
///
/// An edit is `Name: value` (set), `+Name: value` (add), `-Name` (remove), `<...>` (put into the head of the page),
/// `request Name: value`, `status 302 Found`, `plain http`, `path /x`, `body text`. Names in braces are drawn for
/// each twin: the same for both its samples.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Whether the claim holds.
    pub holds: bool,
    /// What makes the response so.
    pub edits: &'static [&'static str],
    /// Why the claim holds or not; what stands in double quotes occurs in the response.
    pub why: &'static str,
}

/// The claim holds.
pub(crate) const fn yes(edits: &'static [&'static str], why: &'static str) -> Case {
    Case { holds: true, edits, why }
}

/// It does not.
pub(crate) const fn no(edits: &'static [&'static str], why: &'static str) -> Case {
    Case { holds: false, edits, why }
}

/// Every kind of claim.
pub fn kinds() -> impl Iterator<Item = &'static Kind> {
    [transport::KINDS, csp::KINDS, cross_origin::KINDS, cookies::KINDS, disclosure::KINDS].into_iter().flatten()
}

/// The kinds that occur in the hold-out alone.
pub const UNSEEN: [&str; 3] = ["cors-null", "cookie-prefix", "csp-form-action"];

/// The table in print.
pub fn markdown() -> String {
    let mut out = String::from("| kind of claim | condition | the claim | why | clause |\n|---|---|---|---|---|\n");
    for kind in kinds() {
        for case in kind.cases {
            let escape = |text: &str| text.replace('|', "\\|");
            let edits: Vec<String> = case.edits.iter().map(|edit| format!("`{}`", escape(edit))).collect();
            let edits = if edits.is_empty() { "nothing is set".to_owned() } else { edits.join(", ") };
            let holds = if case.holds { "holds" } else { "does not hold" };
            out.push_str(&format!("| {} | {edits} | {holds} | {} | {} |\n", kind.name, escape(case.why), kind.clause));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_conditions_on_both_sides_and_wordings() {
        let wordings = crate::wording::all();
        let mut count = 0;
        for kind in kinds() {
            for holds in [true, false] {
                assert!(kind.cases.iter().filter(|case| case.holds == holds).count() >= 2, "{} {holds}", kind.name);
            }
            assert!(wordings.get(kind.name).is_some_and(|wordings| wordings.len() >= 5), "{}", kind.name);
            count += 1;
        }
        assert!(count >= 25, "{count}");
        assert!(UNSEEN.iter().all(|name| kinds().any(|kind| kind.name == *name)));
    }

    #[test]
    fn the_printed_table_is_this_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/policy.md");
        let printed = std::fs::read_to_string(path).expect("there");
        if std::env::var_os("JANUS_WRITE_DOCS").is_some() {
            let text = printed.split("| kind of claim").next().unwrap_or_default();
            std::fs::write(path, format!("{text}{}", markdown())).expect("written");
            return;
        }
        assert!(
            printed.ends_with(&markdown()),
            "docs/policy.md is old: JANUS_WRITE_DOCS=1 cargo test --release --workspace printed"
        );
    }
}
