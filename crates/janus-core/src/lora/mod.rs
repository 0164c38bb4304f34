//! Low-rank adapters (arXiv 2106.09685): `h(x) = W x + scale * B A x` with `A: [rank, d_in]` and `B: [d_out, rank]`.
//!
//! The values of an adapter lie in one vector for each half of a block, each matrix in row-major order: what a PEFT file
//! holds is a slice of it, and an optimizer needs no more than vectors.

mod combine;
mod dropout;

#[cfg(feature = "kernels")]
use std::sync::OnceLock;
use std::{collections::BTreeMap, path::Path, sync::Arc};

use burn::tensor::{Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use regex::Regex;

pub(crate) use self::dropout::Dropout;
use crate::{
    Error, Result,
    config::{MlpKind, ModelConfig},
    device::Compute,
    formats::peft,
    model::{LanguageModel, read_back},
};

/// Which projections have an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetModules {
    /// Every linear projection of every block.
    AllLinear,
    /// Those whose path ends in one of these names (`q_proj`, `layers.3.mlp.up_proj`).
    Names(Vec<String>),
    /// Those whose whole path a regular expression matches.
    Pattern(String),
}

/// How an adapter is made; fields and meaning as in PEFT.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// The rank of each product.
    pub rank: usize,
    /// The products are multiplied by `alpha / rank`.
    pub alpha: f64,
    /// Share of the inputs of `A` that are set to 0 in training. One mask serves all projections of one input, where
    /// PEFT draws one for each.
    pub dropout: f64,
    /// Which projections have an adapter.
    pub target_modules: TargetModules,
    /// Other ranks, for projections whose path ends in what the expression matches.
    pub rank_pattern: BTreeMap<String, usize>,
    /// Other alphas, likewise.
    pub alpha_pattern: BTreeMap<String, f64>,
    /// `alpha / sqrt(rank)` instead (arXiv 2312.03732).
    pub rslora: bool,
    /// Each row of `W + scale * B A` is brought to a learnt length (arXiv 2402.09353). The length that it had is taken as
    /// a constant in the gradient, as PEFT does.
    pub dora: bool,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            dropout: 0.0,
            target_modules: TargetModules::AllLinear,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            rslora: false,
            dora: false,
        }
    }
}

/// Where one projection's matrices lie in its half block's values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Target {
    /// Which projection: q, k, v, o of attention, or gate, up, down of the MLP.
    pub(crate) part: usize,
    pub(crate) rank: usize,
    pub(crate) scale: f32,
    /// `[d_out, d_in]`
    pub(crate) shape: [usize; 2],
    /// Where `A` begins.
    pub(crate) a: usize,
    /// Where `B` begins.
    pub(crate) b: usize,
    /// Where the lengths of rows begin, with DoRA.
    pub(crate) magnitude: Option<usize>,
}

/// The targets of one half of a block, and how many values they have.
pub(crate) type HalfLayout = (Vec<Target>, usize);

/// Names of the projections of both halves of a block, by [`Target::part`].
pub(crate) const MODULES: [&[&str]; 2] = [
    &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"],
    &["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"],
];

/// The path of a projection in a checkpoint.
pub(crate) fn module_path(layer: usize, half: usize, part: usize) -> String {
    format!("model.layers.{layer}.{}", MODULES[half][part])
}

impl LoraConfig {
    /// The targets of both halves of each block, and how many values each half has.
    ///
    /// # Errors
    /// When a number is out of range, an expression is none, or nothing is targeted.
    pub(crate) fn layout(&self, model: &ModelConfig) -> Result<Vec<[HalfLayout; 2]>> {
        let refuse = |setting, expected, actual: String| Err(Error::Setting { setting, expected, actual });
        if !(0.0..1.0).contains(&self.dropout) {
            return refuse("lora_dropout", "from 0 to below 1", self.dropout.to_string());
        }
        let targeted: Vec<Regex> = match &self.target_modules {
            TargetModules::AllLinear => vec![whole(".*")?],
            TargetModules::Names(names) => {
                names.iter().map(|name| ending(&regex::escape(name))).collect::<Result<_>>()?
            }
            TargetModules::Pattern(pattern) => vec![whole(pattern)?],
        };
        let ranks = patterns(&self.rank_pattern)?;
        let alphas = patterns(&self.alpha_pattern)?;
        let (hidden, inner) = (model.hidden_size, model.intermediate_size);
        let (q, kv) = (model.num_attention_heads * model.head_dim, model.num_key_value_heads * model.head_dim);
        let shapes: [&[[usize; 2]]; 2] = [
            &[[q, hidden], [kv, hidden], [kv, hidden], [hidden, q]],
            &[[inner, hidden], [inner, hidden], [hidden, inner]],
        ];
        let mut blocks = Vec::with_capacity(model.num_hidden_layers);
        let mut any = false;
        for layer in 0..model.num_hidden_layers {
            let mut halves = [(Vec::new(), 0), (Vec::new(), 0)];
            for (half, (targets, length)) in halves.iter_mut().enumerate() {
                for (part, shape) in shapes[half].iter().copied().enumerate() {
                    let path = module_path(layer, half, part);
                    let exists = half == 0 || part > 0 || model.mlp == MlpKind::Gated;
                    if !exists || !targeted.iter().any(|pattern| pattern.is_match(&path)) {
                        continue;
                    }
                    let rank = only(&ranks, &path, "rank_pattern")?.unwrap_or(self.rank);
                    if rank == 0 || rank > shape[0].max(shape[1]) {
                        return refuse("r", "from 1 to the width of the projection", rank.to_string());
                    }
                    let alpha = only(&alphas, &path, "alpha_pattern")?.unwrap_or(self.alpha);
                    let below = if self.rslora { (rank as f64).sqrt() } else { rank as f64 };
                    let scale = (alpha / below) as f32;
                    if !scale.is_finite() {
                        return refuse("lora_alpha", "a number", alpha.to_string());
                    }
                    let a = *length;
                    let b = a + rank * shape[1];
                    *length = b + shape[0] * rank;
                    let magnitude = self.dora.then_some(*length);
                    *length += if self.dora { shape[0] } else { 0 };
                    targets.push(Target { part, rank, scale, shape, a, b, magnitude });
                    any = true;
                }
            }
            blocks.push(halves);
        }
        if any { Ok(blocks) } else { refuse("target_modules", "projections of the model", "none of them".to_owned()) }
    }
}

fn whole(pattern: &str) -> Result<Regex> {
    expression(&format!("^(?:{pattern})$"))
}

/// What PEFT makes of a key of a pattern: it matches the end of a path, at a dot.
fn ending(pattern: &str) -> Result<Regex> {
    expression(&format!(r"^(?:.*\.)?(?:{pattern})$"))
}

fn expression(pattern: &str) -> Result<Regex> {
    Regex::new(pattern).map_err(|error| Error::Setting {
        setting: "target_modules, rank_pattern and alpha_pattern",
        expected: "names or regular expressions",
        actual: error.to_string(),
    })
}

/// What the patterns say of a path. PEFT goes by their order in its file, which a map does not keep: two that differ are
/// refused.
fn only<T: Copy + PartialEq>(patterns: &[(Regex, T)], path: &str, setting: &'static str) -> Result<Option<T>> {
    let mut matching = patterns.iter().filter(|(pattern, _)| pattern.is_match(path)).map(|(_, value)| *value);
    let first = matching.next();
    if first.is_some_and(|first| matching.any(|other| other != first)) {
        let expected = "one value for each projection";
        return Err(Error::Setting { setting, expected, actual: format!("several for {path}") });
    }
    Ok(first)
}

fn patterns<T: Copy>(map: &BTreeMap<String, T>) -> Result<Vec<(Regex, T)>> {
    map.iter().map(|(pattern, value)| Ok((ending(pattern)?, *value))).collect()
}

/// The adapter's share of one half of a block.
#[derive(Debug, Clone)]
pub(crate) struct Half {
    pub(crate) targets: Arc<Vec<Target>>,
    pub(crate) values: Tensor<1>,
    /// What our kernels read of values that do not change, made when it is first needed.
    #[cfg(feature = "kernels")]
    pub(crate) packed: Option<Arc<OnceLock<Vec<crate::ops::PackedTarget>>>>,
}

impl Half {
    /// What an adapter adds to the projection `part`, `scale * B A x`; nothing where it has no such target.
    pub(crate) fn added(&self, part: usize, x: Tensor<2>, dropout: Option<Dropout>) -> Option<Tensor<2>> {
        let target = self.target(part)?;
        let x = match dropout {
            Some(dropout) => {
                let [n_rows, width] = x.dims();
                let mut mask = vec![1.0; n_rows * width];
                mask.chunks_exact_mut(width).enumerate().for_each(|(row, values)| dropout.apply(row, values));
                let mask = Tensor::<2>::from_data(TensorData::new(mask, [n_rows, width]), &x.device());
                x * mask
            }
            None => x,
        };
        let [a, b] = self.matrices(target);
        Some(x.matmul(a.transpose()).matmul(b.transpose()) * target.scale)
    }

    /// The target of a projection.
    pub(crate) fn target(&self, part: usize) -> Option<&Target> {
        self.targets.iter().find(|target| target.part == part)
    }

    /// `A` and `B` of a target.
    pub(crate) fn matrices(&self, target: &Target) -> [Tensor<2>; 2] {
        let [d_out, d_in] = target.shape;
        let matrix =
            |at: usize, shape: [usize; 2]| self.values.clone().narrow(0, at, shape[0] * shape[1]).reshape(shape);
        [matrix(target.a, [target.rank, d_in]), matrix(target.b, [d_out, target.rank])]
    }

    /// With DoRA the lengths that rows are brought to, `[1, d_out]`.
    pub(crate) fn magnitude(&self, target: &Target) -> Option<Tensor<2>> {
        let d_out = target.shape[0];
        target.magnitude.map(|at| self.values.clone().narrow(0, at, d_out).reshape([1, d_out]))
    }
}

/// An adapter for some projections of a model's blocks.
#[derive(Debug, Clone)]
pub struct Adapter {
    config: LoraConfig,
    /// Attention and MLP of each block.
    pub(crate) blocks: Vec<[Half; 2]>,
}

impl Adapter {
    /// A fresh adapter, which changes nothing: `A` is uniform within `1 / sqrt(d_in)` (Kaiming with `a = sqrt(5)`, as
    /// PEFT has it), `B` is 0. Its values are tracked by autodiff. DoRA's lengths begin as those of the model's rows.
    ///
    /// # Errors
    /// When a setting is out of range or nothing is targeted.
    pub fn new(config: &LoraConfig, model: &LanguageModel, seed: u64) -> Result<Self> {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let layout = config.layout(model.decoder.config())?;
        let mut values = Vec::with_capacity(layout.len());
        for (layer, halves) in layout.into_iter().enumerate() {
            let mut drawn = [Vec::new(), Vec::new()];
            for (half, (targets, length)) in halves.into_iter().enumerate() {
                drawn[half] = vec![0.0; length];
                for target in targets {
                    let bound = 1.0 / (target.shape[1] as f32).sqrt();
                    let a = &mut drawn[half][target.a..target.b];
                    a.iter_mut().for_each(|value| *value = dice.random_range(-bound..bound));
                    if let Some(at) = target.magnitude {
                        let lengths = model.decoder.row_norms(layer, half, target.part)?;
                        drawn[half][at..at + lengths.len()].copy_from_slice(&lengths);
                    }
                }
            }
            values.push(drawn);
        }
        let adapter = Self::from_values(config.clone(), model.decoder.config(), values, model.decoder.compute())?;
        Ok(adapter.with_values(adapter.values()))
    }

    /// Reads an adapter in PEFT's format for a model. Its values are not tracked.
    ///
    /// # Errors
    /// When a file is missing or damaged, the adapter is of another kind or for another model, or a tensor is missing,
    /// surplus or of another shape.
    pub fn load(folder: &Path, model: &LanguageModel) -> Result<Self> {
        let read = peft::load(folder, model.decoder.config())?;
        if let (Some(theirs), Some(ours)) = (read.base, model.digest())
            && theirs != ours
        {
            let reason = format!("the adapter belongs to the base {theirs}, not to {ours}");
            return Err(Error::BadFile { path: folder.to_owned(), reason });
        }
        Self::from_values(read.config, model.decoder.config(), read.values, model.decoder.compute())
    }

    /// Writes the adapter in PEFT's format, its values in the precision of the model's products.
    ///
    /// # Errors
    /// When a file cannot be written, or the device fails.
    pub fn save(&self, folder: &Path, model: &LanguageModel) -> Result<()> {
        let read = |half: &Half| read_back(half.values.clone());
        let values =
            self.blocks.iter().map(|halves| Ok([read(&halves[0])?, read(&halves[1])?])).collect::<Result<Vec<_>>>()?;
        let precision = model.decoder.compute().precision();
        peft::save(folder, &self.config, model.decoder.config(), &values, model.digest(), precision)
    }

    fn from_values(
        config: LoraConfig,
        model: &ModelConfig,
        values: Vec<[Vec<f32>; 2]>,
        compute: &Compute,
    ) -> Result<Self> {
        let layout = config.layout(model)?;
        let half = |(targets, length): HalfLayout, values: Vec<f32>| {
            // A tensor is never empty: where nothing is targeted, one number stands that nothing reads.
            let values = if length == 0 { vec![0.0] } else { values };
            let shape = [values.len()];
            Half {
                targets: Arc::new(targets),
                values: Tensor::from_data(TensorData::new(values, shape), compute.device()),
                #[cfg(feature = "kernels")]
                packed: Some(Arc::default()),
            }
        };
        let blocks = layout
            .into_iter()
            .zip(values)
            .map(|([first, second], [on_first, on_second])| [half(first, on_first), half(second, on_second)]);
        Ok(Self { blocks: blocks.collect(), config })
    }

    /// How it is made.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// The vectors that hold its values: attention and MLP of the first block, of the second, and so on.
    pub fn values(&self) -> Vec<Tensor<1>> {
        self.blocks.iter().flatten().map(|half| half.values.clone()).collect()
    }

    /// The same adapter with other values, tracked by autodiff.
    ///
    /// # Panics
    /// When there are not as many vectors, or one has another length.
    pub fn with_values(&self, values: Vec<Tensor<1>>) -> Self {
        self.replaced(values, |values| values.without_autodiff().autodiff().require_grad())
    }

    /// The same adapter with values that no one tracks: for reading with it.
    pub fn frozen(&self) -> Self {
        self.replaced(self.values(), Tensor::without_autodiff)
    }

    fn replaced(&self, values: Vec<Tensor<1>>, form: impl Fn(Tensor<1>) -> Tensor<1>) -> Self {
        assert_eq!(values.len(), 2 * self.blocks.len(), "one vector for each half of a block");
        let halves: Vec<Half> = self
            .blocks
            .iter()
            .flatten()
            .zip(values)
            .map(|(half, values)| {
                assert_eq!(half.values.dims(), values.dims(), "one vector for each half of a block");
                let values = form(values);
                Half {
                    targets: half.targets.clone(),
                    #[cfg(feature = "kernels")]
                    packed: (!values.is_tracked()).then(Arc::default),
                    values,
                }
            })
            .collect();
        let blocks = halves.chunks_exact(2).map(|halves| [halves[0].clone(), halves[1].clone()]).collect();
        Self { blocks, config: self.config.clone() }
    }

    /// Whether any row's length is learnt.
    pub(crate) fn has_dora(&self) -> bool {
        self.config.dora
    }

    /// The dropout of one step of training; none where the adapter has none.
    pub(crate) fn dropout(&self, seed: u64, step: u64) -> Option<Dropout> {
        (self.config.dropout > 0.0).then(|| Dropout::new(self.config.dropout, seed, step))
    }
}

/// The length of each row of `W + scale * B A`, from the squared lengths of `W`'s rows and the thin product
/// `A W^T`, `[rank, d_out]`: the sum itself never exists.
pub(crate) fn row_lengths(squares: &[f32], target: &Target, a: &[f32], b: &[f32], products: &[f32]) -> Vec<f32> {
    let (rank, [d_out, d_in]) = (target.rank, target.shape);
    let scale = f64::from(target.scale);
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let row = |index: usize| &a[index * d_in..][..d_in];
    let gram: Vec<f64> = (0..rank * rank).map(|at| dot(row(at / rank), row(at % rank))).collect();
    let length = |out: usize| {
        let b = &b[out * rank..][..rank];
        let mut square = f64::from(squares[out]);
        for (r, own) in b.iter().enumerate() {
            let own = f64::from(*own);
            square += 2.0 * scale * own * f64::from(products[r * d_out + out]);
            let others = b.iter().zip(&gram[r * rank..]).map(|(other, gram)| f64::from(*other) * gram);
            square += scale * scale * own * others.sum::<f64>();
        }
        square.max(0.0).sqrt() as f32
    };
    (0..d_out).map(length).collect()
}
