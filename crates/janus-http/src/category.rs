//! The classes of vulnerability that Janus knows.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A class of vulnerability. Further classes append; numbers and names never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
#[non_exhaustive]
pub enum VulnCategory {
    /// A security header that is missing or does not do its work.
    HttpHeaders,
    /// A request value that runs as script in the response (reflected cross-site scripting).
    Xss,
}

impl VulnCategory {
    /// Every category, in the order of its number.
    pub const ALL: [Self; 2] = [Self::HttpHeaders, Self::Xss];

    /// The name in files and on command lines: `HTTP_HEADERS` or `XSS`.
    pub fn name(self) -> &'static str {
        match self {
            Self::HttpHeaders => "HTTP_HEADERS",
            Self::Xss => "XSS",
        }
    }

    /// The number in the store: 0 or 1.
    pub fn number(self) -> i64 {
        match self {
            Self::HttpHeaders => 0,
            Self::Xss => 1,
        }
    }

    /// The category with this number, if there is one.
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.number() == number)
    }
}

impl fmt::Display for VulnCategory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for VulnCategory {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|category| category.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
            Error::UnknownCategory {
                expected: Self::ALL.map(Self::name).join(", "),
                actual: name.chars().take(60).collect(),
            }
        })
    }
}

impl TryFrom<String> for VulnCategory {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

impl From<VulnCategory> for &'static str {
    fn from(category: VulnCategory) -> Self {
        category.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back_to_the_category() {
        for category in VulnCategory::ALL {
            assert_eq!(category.name().parse(), Ok(category));
            assert_eq!(VulnCategory::from_number(category.number()), Some(category));
        }
        assert_eq!(VulnCategory::from_number(2), None);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_names_that_exist() {
        let error = "SQLI".parse::<VulnCategory>().expect_err("no such category");
        assert_eq!(error.to_string(), "unknown vulnerability category \"SQLI\", expected one of HTTP_HEADERS, XSS");
    }
}
