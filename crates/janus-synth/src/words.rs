//! Words that pages, hosts and values are made of.

use crate::dice::Dice;

/// What a site is about: name, nouns, adjectives.
pub(crate) struct Theme {
    pub name: &'static str,
    pub nouns: &'static [&'static str],
    pub adjectives: &'static [&'static str],
}

pub(crate) const THEMES: &[Theme] = &[
    Theme { name: "shop", nouns: &["lamp", "kettle", "cushion", "basket", "order", "voucher", "parcel", "invoice", "shelf", "curtain", "tray", "mug", "return", "delivery", "bundle", "catalogue"], adjectives: &["oak", "ceramic", "reduced", "handmade", "compact", "woven", "sturdy", "seasonal"] },
    Theme { name: "library", nouns: &["volume", "reader", "shelfmark", "loan", "journal", "archive", "edition", "librarian", "reservation", "atlas", "manuscript", "fee", "branch", "catalogue", "microfilm"], adjectives: &["rare", "bound", "overdue", "digitised", "regional", "annotated", "lost", "borrowed"] },
    Theme { name: "clinic", nouns: &["appointment", "ward", "referral", "physician", "prescription", "vaccine", "chart", "therapy", "patient", "laboratory", "bed", "dose", "examination", "nurse"], adjectives: &["urgent", "paediatric", "routine", "outpatient", "sterile", "chronic", "early", "annual"] },
    Theme { name: "transit", nouns: &["timetable", "platform", "ticket", "tram", "detour", "fare", "stop", "line", "conductor", "season pass", "station", "delay", "seat", "carriage", "junction"], adjectives: &["northbound", "delayed", "hourly", "nightly", "suburban", "accessible", "crowded", "direct"] },
    Theme { name: "garden", nouns: &["seedling", "compost", "trellis", "hedge", "bulb", "greenhouse", "pruning", "orchard", "mulch", "rose", "bed", "irrigation", "pollinator", "spade"], adjectives: &["hardy", "shaded", "perennial", "organic", "fragrant", "dormant", "raised", "wild"] },
    Theme { name: "bank", nouns: &["account", "transfer", "ledger", "balance", "mortgage", "deposit", "statement", "branch", "loan", "interest", "cheque", "payee", "limit", "card"], adjectives: &["joint", "pending", "fixed", "variable", "foreign", "standing", "blocked", "annual"] },
    Theme { name: "school", nouns: &["lesson", "timetable", "pupil", "exam", "canteen", "excursion", "report", "homework", "classroom", "teacher", "term", "certificate", "gym", "orchestra"], adjectives: &["oral", "compulsory", "optional", "final", "postponed", "bilingual", "practical", "weekly"] },
    Theme { name: "museum", nouns: &["exhibit", "gallery", "curator", "sculpture", "tour", "ticket", "collection", "fresco", "restoration", "donor", "label", "vault", "loan", "opening"], adjectives: &["permanent", "guided", "medieval", "bronze", "closed", "borrowed", "interactive", "early"] },
    Theme { name: "hotel", nouns: &["room", "breakfast", "booking", "balcony", "suite", "lobby", "guest", "parking", "key", "sauna", "view", "night", "rate", "shuttle"], adjectives: &["double", "quiet", "refundable", "upper", "late", "family", "booked", "sunny"] },
    Theme { name: "forum", nouns: &["thread", "reply", "moderator", "member", "post", "signature", "poll", "draft", "quote", "mention", "board", "topic", "avatar", "report"], adjectives: &["pinned", "locked", "unread", "recent", "hidden", "popular", "archived", "off-topic"] },
    Theme { name: "weather", nouns: &["forecast", "front", "gauge", "rainfall", "warning", "station", "pressure", "wind", "frost", "cloud", "visibility", "reading", "map", "coast"], adjectives: &["severe", "coastal", "hourly", "low", "gusty", "clear", "alpine", "expected"] },
    Theme { name: "factory", nouns: &["conveyor", "shift", "batch", "sensor", "pallet", "valve", "work order", "spare part", "inspection", "forklift", "tolerance", "alarm", "furnace", "gauge"], adjectives: &["faulty", "scheduled", "calibrated", "urgent", "hydraulic", "idle", "second", "spare"] },
    Theme { name: "council", nouns: &["permit", "hearing", "parking zone", "waste bin", "resident", "fee", "by-law", "register", "counter", "form", "election", "petition", "district", "notice"], adjectives: &["municipal", "temporary", "written", "public", "overdue", "northern", "revised", "signed"] },
    Theme { name: "kitchen", nouns: &["recipe", "dough", "oven", "broth", "spice", "pan", "portion", "whisk", "harvest", "menu", "pantry", "glaze", "filling", "crust"], adjectives: &["crisp", "slow-cooked", "salted", "vegan", "smoked", "seasonal", "sour", "roasted"] },
];

pub(crate) const VERBS: &[&str] = &[
    "replaces", "follows", "needs", "includes", "precedes", "covers", "improves", "delays", "supports", "lists", "explains", "closes", "opens", "updates",
    "confirms", "extends", "splits", "joins", "limits", "describes", "carries", "marks",
];
pub(crate) const TAILS: &[&str] = &[
    "before noon", "since last week", "in most cases", "without extra cost", "for members", "until further notice", "on request", "every second Tuesday",
    "at the main desk", "after the update", "in both languages", "as announced", "with a short delay", "near the entrance", "for the time being",
];
pub(crate) const NAMES: &[&str] = &[
    "alder", "brook", "cedar", "dune", "elm", "fjord", "grove", "harbor", "iris", "juniper", "kestrel", "larch", "meadow", "north", "orchid", "pine", "quarry",
    "ridge", "spruce", "tide", "umber", "vale", "willow", "yarrow", "zephyr", "amber", "birch", "copper", "delta", "ember", "flint", "granite", "heron", "indigo",
];
pub(crate) const PARAMETERS: &[&str] = &[
    "q", "s", "search", "query", "keyword", "term", "name", "title", "msg", "message", "comment", "text", "id", "page", "lang", "ref", "next", "url", "redirect",
    "filter", "category", "cat", "tag", "user", "email", "subject", "city", "code", "item", "view", "from", "callback", "error", "topic", "label", "file", "path",
    "input", "value", "note", "returnUrl", "product", "key", "token", "state", "action", "section", "sort",
];

/// A sentence of a theme.
pub(crate) fn sentence(dice: &mut Dice, theme: &Theme) -> String {
    let (noun, other) = (*dice.pick(theme.nouns), *dice.pick(theme.nouns));
    let (adjective, second) = (*dice.pick(theme.adjectives), *dice.pick(theme.adjectives));
    let (verb, tail) = (*dice.pick(VERBS), *dice.pick(TAILS));
    match dice.number(0, 4) {
        0 => format!("The {adjective} {noun} {verb} the {other} {tail}."),
        1 => format!("Each {noun} {verb} one {second} {other}, {tail}."),
        2 => format!("{}: the {other} {verb} a {adjective} {noun}.", capital(tail)),
        3 => format!("No {noun} {verb} more than {} {second} {other}s {tail}.", dice.number(2, 40)),
        _ => format!("Ask for the {second} {noun} if the {other} {verb} it {tail}."),
    }
}

/// The first letter in upper case.
pub(crate) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// A host name.
pub(crate) fn host(dice: &mut Dice) -> String {
    let (a, b) = (*dice.pick(NAMES), *dice.pick(NAMES));
    let theme = dice.pick(THEMES).name;
    let number = dice.number(2, 99);
    match dice.number(0, 4) {
        0 => format!("{a}-{theme}.example"),
        1 => format!("{theme}.{a}{b}.example"),
        2 => format!("www.{a}{number}.example"),
        3 => format!("{a}{b}.example"),
        _ => format!("app.{a}-{b}.example"),
    }
}
