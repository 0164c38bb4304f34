//! Which samples something was made from.

use janus_data::Sample;
use sha2::{Digest, Sha256};

/// The digest of samples in their order, `sha256:...`: of everything that training reads.
pub(crate) fn digest_of<'s>(samples: impl IntoIterator<Item = &'s Sample>) -> String {
    let mut hasher = Sha256::new();
    for sample in samples {
        let claim = serde_json::to_vec(&sample.claim).unwrap_or_default();
        for field in
            [sample.pair.request().raw(), sample.pair.response().raw(), claim.as_slice(), sample.analysis.as_bytes()]
        {
            hasher.update((field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        // Names and twins decide the order.
        for name in [Some(&sample.id), sample.origin.twin.as_ref()].into_iter().flatten() {
            hasher.update((name.len() as u64).to_le_bytes());
            hasher.update(name);
        }
        hasher.update([u8::from(sample.is_vulnerable)]);
    }
    let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
