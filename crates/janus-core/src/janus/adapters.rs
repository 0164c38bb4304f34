//! Adapters in memory, by name.

use std::path::Path;

use janus_http::VulnCategory;

use super::{AssessConfig, Janus};
use crate::{Error, Result, digest, lora::Adapter};

/// An adapter in memory.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) adapter: Adapter,
    /// Of the files that it came from, `sha256:...`.
    pub(super) digest: Option<String>,
}

impl Janus {
    /// Reads an adapter in PEFT's format under a name, beside those that are there; one of that name is replaced. The
    /// base model does not change.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the adapter is of another kind or for another model.
    pub fn attach(&mut self, name: impl Into<String>, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        let adapter = Adapter::load(folder, &self.model)?;
        let digest = Some(digest::digest_of_adapter(folder)?);
        self.adapters.insert(name.into(), Attached { adapter, digest });
        Ok(())
    }

    /// The same with an adapter in memory, whose values are read and not tracked.
    pub fn attach_adapter(&mut self, name: impl Into<String>, adapter: &Adapter) {
        self.adapters.insert(name.into(), Attached { adapter: adapter.frozen(), digest: None });
    }

    /// Takes an adapter out of memory.
    pub fn detach(&mut self, name: &str) -> Option<Adapter> {
        self.adapters.remove(name).map(|attached| attached.adapter)
    }

    /// An adapter in memory.
    pub fn adapter(&self, name: &str) -> Option<&Adapter> {
        self.adapters.get(name).map(|attached| &attached.adapter)
    }

    /// The digest of the files that an adapter in memory came from, `sha256:...`.
    pub fn adapter_digest(&self, name: &str) -> Option<&str> {
        self.adapters.get(name).and_then(|attached| attached.digest.as_deref())
    }

    /// The names of the adapters in memory.
    pub fn adapters(&self) -> impl Iterator<Item = &str> {
        self.adapters.keys().map(String::as_str)
    }

    /// What reads findings of a category with a configuration; nothing for variants that are not fine-tuned.
    pub(super) fn attached(&self, category: VulnCategory, config: &AssessConfig) -> Result<Option<&Attached>> {
        if !config.variant.is_fine_tuned() {
            return Ok(None);
        }
        if config.variant.has_head() {
            let in_use = self.bundle.as_ref().ok_or_else(|| Error::Setting {
                setting: "variant",
                expected: "one without a classification head, for there is no bundle",
                actual: config.variant.to_string(),
            })?;
            let own = in_use.bundle.manifest.facts.variant();
            if config.variant != own {
                let expected = "the variant of the bundle";
                return Err(Error::Setting { setting: "variant", expected, actual: config.variant.to_string() });
            }
            in_use.bundle.calibration(category)?;
            return Ok(Some(&in_use.attached));
        }
        let name = config.adapters.get(&category).ok_or_else(|| Error::Setting {
            setting: "adapters",
            expected: "an adapter for each category that a fine-tuned variant reads",
            actual: format!("none for {category}"),
        })?;
        let attached = self.adapters.get(name).ok_or_else(|| Error::Setting {
            setting: "adapters",
            expected: "names of attached adapters",
            actual: name.clone(),
        })?;
        Ok(Some(attached))
    }
}
