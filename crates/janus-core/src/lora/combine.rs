//! Adapters made of adapters.

use std::collections::BTreeMap;

use super::{Adapter, LoraConfig, MODULES, TargetModules, module_path};
use crate::{
    Error, Result,
    model::{LanguageModel, read_back},
};

/// One product of a combination: its two matrices and what it is multiplied by.
struct Product {
    a: Vec<f32>,
    b: Vec<f32>,
    rank: usize,
    weight: f32,
}

impl Adapter {
    /// The same adapter with all that it adds multiplied by `factor`. With DoRA the direction of rows moves by as much.
    ///
    /// # Errors
    /// When the factor is not a number, or the device fails.
    pub fn scaled(&self, factor: f64, model: &LanguageModel) -> Result<Self> {
        let mut config = self.config.clone();
        config.alpha *= factor;
        config.alpha_pattern.values_mut().for_each(|alpha| *alpha *= factor);
        let halves: Vec<Vec<f32>> = self.values().into_iter().map(read_back).collect::<Result<_>>()?;
        let values = halves.chunks_exact(2).map(|two| [two[0].clone(), two[1].clone()]).collect();
        Self::from_values(config, model.decoder.config(), values, model.decoder.compute())
    }

    /// One adapter that adds the weighted sum of what others add: `sum of weight * scale * B A x`. Ranks add up, as in
    /// PEFT's `add_weighted_adapter` with `cat`; nothing is approximated.
    ///
    /// # Errors
    /// When there is none, a weight is not a number, one learns lengths of rows (DoRA), whose sum is no adapter, one belongs to
    /// another model, or the ranks of a projection add up to more than its larger side.
    pub fn combined(parts: &[(&Adapter, f64)], model: &LanguageModel) -> Result<Self> {
        let refuse = |actual: String| Error::Setting {
            setting: "combination of adapters",
            expected: "adapters of this model without DoRA, and weights that are numbers",
            actual,
        };
        if parts.is_empty() {
            return Err(refuse("none".to_owned()));
        }
        if let Some((_, weight)) = parts.iter().find(|(adapter, weight)| adapter.has_dora() || !weight.is_finite()) {
            return Err(refuse(format!("an adapter with DoRA or the weight {weight}")));
        }
        // Products by layer, half and projection.
        let mut products: BTreeMap<[usize; 3], Vec<Product>> = BTreeMap::new();
        for (adapter, weight) in parts {
            for (layer, halves) in adapter.blocks.iter().enumerate() {
                for (half, own) in halves.iter().enumerate() {
                    let values = read_back(own.values.clone())?;
                    for target in own.targets.iter() {
                        let [d_out, d_in] = target.shape;
                        products.entry([layer, half, target.part]).or_default().push(Product {
                            a: values[target.a..][..target.rank * d_in].to_vec(),
                            b: values[target.b..][..d_out * target.rank].to_vec(),
                            rank: target.rank,
                            weight: target.scale * *weight as f32,
                        });
                    }
                }
            }
        }
        let rank = |products: &[Product]| products.iter().map(|product| product.rank).sum::<usize>();
        let paths = products.iter().map(|(at, products)| (module_path(at[0], at[1], at[2]), rank(products)));
        let ranks: BTreeMap<String, usize> = paths.collect();
        let config = LoraConfig {
            rank: 1,
            alpha: 1.0,
            dropout: 0.0,
            target_modules: TargetModules::Names(ranks.keys().cloned().collect()),
            // Weights lie in the values: every scale is 1.
            alpha_pattern: ranks.iter().map(|(path, rank)| (path.clone(), *rank as f64)).collect(),
            rank_pattern: ranks,
            rslora: false,
            dora: false,
        };
        let layout = config.layout(model.decoder.config())?;
        let mut values = Vec::with_capacity(layout.len());
        for (layer, halves) in layout.into_iter().enumerate() {
            let mut joined = [Vec::new(), Vec::new()];
            for (half, (targets, length)) in halves.into_iter().enumerate() {
                debug_assert!(targets.len() <= MODULES[half].len());
                joined[half] = vec![0.0; length];
                for target in targets {
                    let [d_out, d_in] = target.shape;
                    let mut before = 0;
                    for product in &products[&[layer, half, target.part]] {
                        let rank = product.rank;
                        if product.a.len() != rank * d_in || product.b.len() != d_out * rank {
                            return Err(refuse("an adapter of another model".to_owned()));
                        }
                        joined[half][target.a + before * d_in..][..rank * d_in].copy_from_slice(&product.a);
                        for out in 0..d_out {
                            let row = &mut joined[half][target.b + out * target.rank + before..][..rank];
                            let from = &product.b[out * rank..][..rank];
                            row.iter_mut().zip(from).for_each(|(to, from)| *to = product.weight * from);
                        }
                        before += rank;
                    }
                }
            }
            values.push(joined);
        }
        Self::from_values(config, model.decoder.config(), values, model.decoder.compute())
    }
}
