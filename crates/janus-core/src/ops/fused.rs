//! The burn extension: each operation with a gradient of its own, computed by our kernels on flex.
//!
//! A model decides when it is loaded whether its weights are packed, and only packed weights come here, so no other
//! backend is ever asked.

use std::sync::Arc;

use burn::{
    backend::{
        Autodiff, Backend, Dispatch, Flex, FlexDevice,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        ops::FloatTensorOps,
        tensor::FloatTensor,
    },
    tensor::{Tensor, TensorData},
};
use janus_kernels::{Isa, LogitsConfig, Panels, Rows, Store, each_row, gemm, gemm_transposed};

use super::{
    adapted::{NormWeights, rounded_product},
    attention::{self, AttentionCall},
    mlp::{self, MlpCall},
};

/// The rows whose log-probabilities are asked for: the tokens, and what turns a product into a logit.
#[derive(Debug)]
pub(crate) struct LogprobCall {
    lm_head: Arc<Panels>,
    targets: Vec<u32>,
    config: LogitsConfig,
}

#[backend_extension(Flex, Autodiff)]
pub(crate) trait FusedOps: Backend {
    fn attention_half(x: FloatTensor<Self>, adapter: FloatTensor<Self>, call: Arc<AttentionCall>) -> FloatTensor<Self>;
    fn mlp_half(x: FloatTensor<Self>, adapter: FloatTensor<Self>, call: Arc<MlpCall>) -> FloatTensor<Self>;
    fn norm_rows(x: FloatTensor<Self>, norm: NormWeights) -> FloatTensor<Self>;
    fn frozen_linear(x: FloatTensor<Self>, weight: Arc<Panels>, rounded: bool) -> FloatTensor<Self>;
    fn token_logprobs(x: FloatTensor<Self>, call: Arc<LogprobCall>) -> FloatTensor<Self>;
}

/// What the gradients of [`FusedOps`] need; never itself under autodiff.
pub(crate) trait FusedGradients: FusedOps {
    fn attention_half_saving(
        x: FloatTensor<Self>,
        adapter: FloatTensor<Self>,
        call: &AttentionCall,
    ) -> (FloatTensor<Self>, Arc<attention::Saved>);
    fn attention_half_backward(
        dy: FloatTensor<Self>,
        adapter: FloatTensor<Self>,
        call: &AttentionCall,
        saved: &attention::Saved,
        with_input: bool,
    ) -> [FloatTensor<Self>; 2];
    fn mlp_half_saving(
        x: FloatTensor<Self>,
        adapter: FloatTensor<Self>,
        call: &MlpCall,
    ) -> (FloatTensor<Self>, Arc<mlp::Saved>);
    fn mlp_half_backward(
        dy: FloatTensor<Self>,
        adapter: FloatTensor<Self>,
        call: &MlpCall,
        saved: &mlp::Saved,
        with_input: bool,
    ) -> [FloatTensor<Self>; 2];
    fn norm_rows_backward(x: FloatTensor<Self>, dy: FloatTensor<Self>, norm: &NormWeights) -> FloatTensor<Self>;
    fn frozen_linear_backward(dy: FloatTensor<Self>, weight: &Panels) -> FloatTensor<Self>;
    /// Log-probabilities, and the gradient of each with respect to its row.
    fn token_logprobs_saving(x: FloatTensor<Self>, call: &LogprobCall) -> (FloatTensor<Self>, Arc<Vec<f32>>);
    fn token_logprobs_backward(dy: FloatTensor<Self>, gradient: &[f32]) -> FloatTensor<Self>;
}

/// The numbers of a tensor in row-major order.
struct Values(FloatTensor<Flex>);

impl Values {
    fn of(tensor: FloatTensor<Flex>) -> Self {
        Self(tensor.to_contiguous())
    }

    fn width(&self) -> usize {
        self.0.layout().shape()[1]
    }
}

impl std::ops::Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let layout = self.0.layout();
        &self.0.storage()[layout.start_offset()..][..layout.num_elements()]
    }
}

/// A matrix that is changed in place where nobody else has it, and copied first where somebody does.
struct Owned(FloatTensor<Flex>);

impl Owned {
    fn of(tensor: FloatTensor<Flex>) -> Self {
        Self(tensor.to_contiguous())
    }

    fn values(&mut self) -> &mut [f32] {
        let (start, count) = (self.0.layout().start_offset(), self.0.layout().num_elements());
        &mut self.0.storage_mut()[start..][..count]
    }
}

fn matrix(values: Vec<f32>, width: usize) -> FloatTensor<Flex> {
    let shape = [values.len() / width, width];
    Flex::float_from_data(TensorData::new(values, shape), &FlexDevice)
}

fn vector(values: Vec<f32>) -> FloatTensor<Flex> {
    let shape = [values.len()];
    Flex::float_from_data(TensorData::new(values, shape), &FlexDevice)
}

impl FusedOps for Flex {
    fn attention_half(x: FloatTensor<Self>, adapter: FloatTensor<Self>, call: Arc<AttentionCall>) -> FloatTensor<Self> {
        let (mut x, adapter) = (Owned::of(x), Values::of(adapter));
        call.forward(x.values(), &adapter, false);
        x.0
    }

    fn mlp_half(x: FloatTensor<Self>, adapter: FloatTensor<Self>, call: Arc<MlpCall>) -> FloatTensor<Self> {
        let (mut x, adapter) = (Owned::of(x), Values::of(adapter));
        call.forward(x.values(), &adapter, false);
        x.0
    }

    fn norm_rows(x: FloatTensor<Self>, norm: NormWeights) -> FloatTensor<Self> {
        let x = Values::of(x);
        let width = norm.weight.len();
        let mut y = vec![0.0; x.len()];
        each_row(&mut y, width, width * 4, |row, y| norm.row(Isa::best(), &x[row * width..][..width], y));
        matrix(y, width)
    }

    fn frozen_linear(x: FloatTensor<Self>, weight: Arc<Panels>, rounded: bool) -> FloatTensor<Self> {
        janus_kernels::expect([&*weight]);
        let x = Values::of(x);
        let mut y = vec![0.0; x.len() / weight.width() * weight.n()];
        match weight.blocks().filter(|_| rounded) {
            Some(blocks) => {
                let (isa, width, n) = (Isa::best(), weight.width(), weight.n());
                rounded_product(isa, &x, width, &[(blocks, 0)], &mut y, n, Store::Set);
            }
            None => {
                let rows = Rows::pack(Isa::best(), weight.precision(), &x, weight.width());
                gemm(Isa::best(), &rows, &[(&weight, 0)], &mut y, weight.n(), Store::Set);
            }
        }
        matrix(y, weight.n())
    }

    fn token_logprobs(x: FloatTensor<Self>, call: Arc<LogprobCall>) -> FloatTensor<Self> {
        vector(call.run(&Values::of(x), false).logprobs)
    }
}

impl LogprobCall {
    fn run(&self, x: &[f32], with_gradient: bool) -> janus_kernels::TokenLogprobs {
        janus_kernels::token_logprobs(Isa::best(), &self.config, x, &self.lm_head, &self.targets, with_gradient)
    }
}

impl FusedGradients for Flex {
    fn attention_half_saving(
        x: FloatTensor<Self>,
        adapter: FloatTensor<Self>,
        call: &AttentionCall,
    ) -> (FloatTensor<Self>, Arc<attention::Saved>) {
        let (mut x, adapter) = (Owned::of(x), Values::of(adapter));
        let saved = call.forward(x.values(), &adapter, true);
        (x.0, Arc::new(saved.expect("asked for")))
    }

    fn attention_half_backward(
        dy: FloatTensor<Self>,
        adapter: FloatTensor<Self>,
        call: &AttentionCall,
        saved: &attention::Saved,
        with_input: bool,
    ) -> [FloatTensor<Self>; 2] {
        let (dy, adapter) = (Values::of(dy), Values::of(adapter));
        let [dx, d_adapter] = call.backward(&dy, &adapter, saved, with_input);
        [matrix(dx, dy.width()), vector(d_adapter)]
    }

    fn mlp_half_saving(
        x: FloatTensor<Self>,
        adapter: FloatTensor<Self>,
        call: &MlpCall,
    ) -> (FloatTensor<Self>, Arc<mlp::Saved>) {
        let (mut x, adapter) = (Owned::of(x), Values::of(adapter));
        let saved = call.forward(x.values(), &adapter, true);
        (x.0, Arc::new(saved.expect("asked for")))
    }

    fn mlp_half_backward(
        dy: FloatTensor<Self>,
        adapter: FloatTensor<Self>,
        call: &MlpCall,
        saved: &mlp::Saved,
        with_input: bool,
    ) -> [FloatTensor<Self>; 2] {
        let (dy, adapter) = (Values::of(dy), Values::of(adapter));
        let [dx, d_adapter] = call.backward(&dy, &adapter, saved, with_input);
        [matrix(dx, dy.width()), vector(d_adapter)]
    }

    fn norm_rows_backward(x: FloatTensor<Self>, dy: FloatTensor<Self>, norm: &NormWeights) -> FloatTensor<Self> {
        let (x, dy) = (Values::of(x), Values::of(dy));
        let width = norm.weight.len();
        let mut dx = vec![0.0; x.len()];
        each_row(&mut dx, width, width * 4, |row, dx| {
            let place = row * width..(row + 1) * width;
            norm.row_backward(Isa::best(), &x[place.clone()], &dy[place], dx);
        });
        matrix(dx, width)
    }

    fn frozen_linear_backward(dy: FloatTensor<Self>, weight: &Panels) -> FloatTensor<Self> {
        let dy = Values::of(dy);
        let rows = Rows::pack(Isa::best(), weight.precision(), &dy, weight.n());
        let mut dx = vec![0.0; rows.n_rows() * weight.width()];
        gemm_transposed(Isa::best(), &rows, weight, &mut dx, Store::Set);
        matrix(dx, weight.width())
    }

    fn token_logprobs_saving(x: FloatTensor<Self>, call: &LogprobCall) -> (FloatTensor<Self>, Arc<Vec<f32>>) {
        let out = call.run(&Values::of(x), true);
        (vector(out.logprobs), Arc::new(out.gradient))
    }

    fn token_logprobs_backward(dy: FloatTensor<Self>, gradient: &[f32]) -> FloatTensor<Self> {
        let dy = Values::of(dy);
        let width = gradient.len() / dy.len();
        let mut dx = gradient.to_vec();
        dx.chunks_exact_mut(width).zip(dy.iter()).for_each(|(row, dy)| row.iter_mut().for_each(|value| *value *= dy));
        matrix(dx, width)
    }
}

/// Defines the tracked form of a half block: two parents, and what was saved.
macro_rules! half_under_autodiff {
    ($name:ident, $call:ty, $saved:ty, $saving:ident, $backward:ident) => {
        fn $name(x: FloatTensor<Self>, adapter: FloatTensor<Self>, call: Arc<$call>) -> FloatTensor<Self> {
            #[derive(Debug)]
            struct Half;
            impl<B: FusedGradients> Backward<B, 2> for Half {
                type State = (FloatTensor<B>, Arc<$call>, Arc<$saved>);

                fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
                    let dy = gradients.consume::<B>(&ops.node);
                    let (adapter, call, saved) = ops.state;
                    let [x, values] = ops.parents;
                    let [dx, d_values] = B::$backward(dy, adapter, &call, &saved, x.is_some());
                    for (parent, gradient) in [(x, dx), (values, d_values)] {
                        if let Some(parent) = parent {
                            gradients.register::<B>(parent.id, gradient);
                        }
                    }
                }
            }
            let nodes = [x.node(), adapter.node()];
            let (x, adapter) = (x.into_primitive(), adapter.into_primitive());
            match Half.prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(prep) => {
                    let (y, saved) = B::$saving(x, adapter.clone(), &call);
                    prep.finish((adapter, call, saved), y)
                }
                OpsKind::UnTracked(prep) => prep.finish(B::$name(x, adapter, call)),
            }
        }
    };
}

impl<B: FusedGradients, C: CheckpointStrategy> FusedOps for Autodiff<B, C> {
    half_under_autodiff!(
        attention_half,
        AttentionCall,
        attention::Saved,
        attention_half_saving,
        attention_half_backward
    );
    half_under_autodiff!(mlp_half, MlpCall, mlp::Saved, mlp_half_saving, mlp_half_backward);

    fn norm_rows(x: FloatTensor<Self>, norm: NormWeights) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Norm;
        impl<B: FusedGradients> Backward<B, 1> for Norm {
            type State = (FloatTensor<B>, NormWeights);

            fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
                let dy = gradients.consume::<B>(&ops.node);
                let ([parent], (x, norm)) = (ops.parents, ops.state);
                if let Some(parent) = parent {
                    gradients.register::<B>(parent.id, B::norm_rows_backward(x, dy, &norm));
                }
            }
        }
        let node = x.node();
        let x = x.into_primitive();
        match Norm.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let y = B::norm_rows(x.clone(), norm.clone());
                prep.finish((x, norm), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::norm_rows(x, norm)),
        }
    }

    fn frozen_linear(x: FloatTensor<Self>, weight: Arc<Panels>, rounded: bool) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Linear;
        impl<B: FusedGradients> Backward<B, 1> for Linear {
            type State = Arc<Panels>;

            fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
                let dy = gradients.consume::<B>(&ops.node);
                let [parent] = ops.parents;
                if let Some(parent) = parent {
                    gradients.register::<B>(parent.id, B::frozen_linear_backward(dy, &ops.state));
                }
            }
        }
        let node = x.node();
        let x = x.into_primitive();
        match Linear.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let y = B::frozen_linear(x, weight.clone(), rounded);
                prep.finish(weight, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::frozen_linear(x, weight, rounded)),
        }
    }

    fn token_logprobs(x: FloatTensor<Self>, call: Arc<LogprobCall>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Logprobs;
        impl<B: FusedGradients> Backward<B, 1> for Logprobs {
            type State = Arc<Vec<f32>>;

            fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
                let dy = gradients.consume::<B>(&ops.node);
                let [parent] = ops.parents;
                if let Some(parent) = parent {
                    gradients.register::<B>(parent.id, B::token_logprobs_backward(dy, &ops.state));
                }
            }
        }
        let node = x.node();
        let x = x.into_primitive();
        match Logprobs.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (y, gradient) = B::token_logprobs_saving(x, &call);
                prep.finish(gradient, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::token_logprobs(x, call)),
        }
    }
}

/// The attention half of a block. `adapter` is empty (one number that nothing reads) where there is none.
pub(crate) fn attention_half(x: Tensor<2>, adapter: Tensor<1>, call: AttentionCall) -> Tensor<2> {
    let (x, adapter) = (x.into_dispatch(), adapter.into_dispatch());
    Tensor::from_dispatch(<Dispatch as FusedOps>::attention_half(x, adapter, Arc::new(call)))
}

/// The MLP half of a block.
pub(crate) fn mlp_half(x: Tensor<2>, adapter: Tensor<1>, call: MlpCall) -> Tensor<2> {
    let (x, adapter) = (x.into_dispatch(), adapter.into_dispatch());
    Tensor::from_dispatch(<Dispatch as FusedOps>::mlp_half(x, adapter, Arc::new(call)))
}

/// One norm of each row.
pub(crate) fn norm(x: Tensor<2>, norm: &NormWeights) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as FusedOps>::norm_rows(x.into_dispatch(), norm.clone()))
}

/// `x W^T`, with `x` rounded to 8 bits where that is asked for and the weight is held in blocks.
pub(super) fn project(x: Tensor<2>, weight: &Arc<Panels>, rounded: bool) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as FusedOps>::frozen_linear(x.into_dispatch(), weight.clone(), rounded))
}

/// `log softmax(logits(x))[target]` of each row.
pub(crate) fn token_logprobs(
    x: Tensor<2>,
    lm_head: &Arc<Panels>,
    targets: Vec<u32>,
    config: LogitsConfig,
) -> Tensor<1> {
    let call = LogprobCall { lm_head: lm_head.clone(), targets, config };
    Tensor::from_dispatch(<Dispatch as FusedOps>::token_logprobs(x.into_dispatch(), Arc::new(call)))
}
