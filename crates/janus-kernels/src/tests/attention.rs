//! Attention and its gradients.

use super::{assert_close, assert_gradient, dice, draw, each, seen, wide};
use crate::{AttentionConfig, AttentionInputs, KeyValues, Precision, attention, attention_backward, reference};

struct Case {
    group: usize,
    kv_heads: usize,
    head_dim: usize,
    n_tokens: usize,
    window: usize,
    softcap: Option<f32>,
}

const CASES: [Case; 6] = [
    Case { group: 3, kv_heads: 3, head_dim: 64, n_tokens: 150, window: usize::MAX, softcap: None },
    Case { group: 1, kv_heads: 2, head_dim: 6, n_tokens: 1, window: usize::MAX, softcap: None },
    Case { group: 2, kv_heads: 1, head_dim: 16, n_tokens: 33, window: 7, softcap: None },
    Case { group: 2, kv_heads: 2, head_dim: 20, n_tokens: 260, window: 100, softcap: Some(1.5) },
    Case { group: 4, kv_heads: 1, head_dim: 15, n_tokens: 113, window: 1, softcap: None },
    Case { group: 1, kv_heads: 1, head_dim: 80, n_tokens: 450, window: usize::MAX, softcap: Some(0.8) },
];

#[test]
fn attention_agrees_with_the_reference_and_so_do_its_gradients() {
    each(|isa, precision| {
        for (index, case) in CASES.iter().enumerate() {
            let what = format!("{isa} {precision:?} case {index}");
            let mut dice = dice(index as u64);
            let &Case { group, kv_heads, head_dim, n_tokens, window, softcap } = case;
            let config = AttentionConfig { group, scale: 0.7, softcap, window };
            let (q_width, kv_width) = (kv_heads * group * head_dim, kv_heads * head_dim);
            let stride = q_width + 2 * kv_width;
            // Queries, keys and values of a token stand in one row.
            let rows = seen(precision, &draw(&mut dice, n_tokens * stride));
            let part = |from: usize, width: usize| -> Vec<f32> {
                rows.chunks_exact(stride).flat_map(|row| row[from..from + width].to_vec()).collect()
            };
            let (q, k, v) = (part(0, q_width), part(q_width, kv_width), part(q_width + kv_width, kv_width));
            let mut kv = KeyValues::new(precision, kv_heads, head_dim, n_tokens);
            kv.append(isa, n_tokens, &rows[q_width..], &rows[q_width + kv_width..], stride);
            let attended = attention(isa, &config, &rows, n_tokens, stride, &kv);
            let at = |q: &[f64], k: &[f64], v: &[f64]| {
                reference::attention(&config, [q, k, v], [kv_heads, head_dim], [n_tokens, n_tokens])
            };
            let (output, sums) = at(&wide(&q), &wide(&k), &wide(&v));
            let tolerance = if precision == Precision::F32 { 1e-5 } else { 2e-2 };
            assert_close(&attended.output, &output, tolerance, &what);
            assert_close(&attended.log_sum, &sums, tolerance, &what);

            // Token by token, through a cache that has forgotten something: the same bits.
            let mut cache = KeyValues::new(precision, kv_heads, head_dim, n_tokens);
            let first = n_tokens / 2;
            cache.append(isa, n_tokens - first, &rows[q_width..], &rows[q_width..], stride);
            cache.truncate(0);
            for (begin, end) in [(0, first), (first, n_tokens)] {
                let new = &rows[begin * stride..];
                cache.append(
                    isa,
                    end - begin,
                    &new[q_width.min(new.len())..],
                    &new[(q_width + kv_width).min(new.len())..],
                    stride,
                );
                let part = attention(isa, &config, new, end - begin, stride, &cache);
                assert_eq!(part.output[..], attended.output[begin * q_width..end * q_width], "{what}: cached");
            }

            let d_output = seen(precision, &draw(&mut dice, n_tokens * q_width));
            let inputs = AttentionInputs {
                queries: &rows,
                keys: &rows[q_width..],
                values: &rows[q_width + kv_width..],
                stride,
                n_tokens,
                n_queries: n_tokens,
                attended: &attended,
            };
            let gradients = attention_backward(isa, &config, &inputs, &d_output, &kv);
            let loss = |inputs: &[Vec<f64>]| -> f64 {
                let (output, _) = at(&inputs[0], &inputs[1], &inputs[2]);
                output.iter().zip(&d_output).map(|(y, dy)| y * f64::from(*dy)).sum()
            };
            let tolerance = if precision == Precision::F32 { 1e-5 } else { 1e-2 };
            let ours: [&[f32]; 3] = [&gradients.queries, &gradients.keys, &gradients.values];
            assert_gradient(&mut dice, &[&q, &k, &v], &ours, loss, tolerance);

            // Where the last tokens alone ask, the others give keys and values and have no gradient of their own.
            let asking = attention(isa, &config, &rows[first * stride..], n_tokens - first, stride, &kv);
            let some = AttentionInputs {
                queries: &rows[first * stride..],
                n_queries: n_tokens - first,
                attended: &asking,
                ..inputs
            };
            let some = attention_backward(isa, &config, &some, &d_output[first * q_width..], &kv);
            let mut silent = d_output.clone();
            silent[..first * q_width].fill(0.0);
            let all = attention_backward(isa, &config, &inputs, &silent, &kv);
            assert_close(&some.queries, &wide(&all.queries[first * q_width..]), tolerance, &what);
            assert_close(&some.keys, &wide(&all.keys), tolerance, &what);
            assert_close(&some.values, &wide(&all.values), tolerance, &what);
        }
    });
}
