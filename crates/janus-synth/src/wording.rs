//! The words in which scanners and people report findings, by kind of claim.

use std::{collections::BTreeMap, sync::LazyLock};

/// Every wording, by kind.
pub fn all() -> &'static BTreeMap<String, Vec<String>> {
    static ALL: LazyLock<BTreeMap<String, Vec<String>>> = LazyLock::new(|| {
        // The file is part of the program, and a test reads it.
        serde_json::from_str(include_str!("../data/claims.json")).unwrap_or_default()
    });
    &ALL
}
