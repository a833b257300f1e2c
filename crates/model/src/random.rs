//! Seeded weights, made on the host and bit-identical on every platform.
//!
//! Every value is a function of the seed, the tensor's name and the element's index alone, and
//! is reached by integer arithmetic and one f32 multiplication: no `libm`, no order of
//! evaluation and no number of threads can change a bit.

use std::thread;

use crate::tensors::Role;

/// Standard deviation of random matrices, as in the published configs' `initializer_range`.
const STD: f32 = 0.02;

/// Increment of the SplitMix64 sequence, the odd integer nearest to 2^64 over the golden ratio.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Finaliser of SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A sequential generator, for shuffling.
#[derive(Clone, Debug)]
pub struct Generator(u64);

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// Uniform in `0..bound`, without bias (Lemire 2019, doi:10.1145/3230636).
    ///
    /// # Panics
    ///
    /// If `bound` is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "an empty range has no element");
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            if (product as u64) >= bound.wrapping_neg() % bound {
                return (product >> 64) as u64;
            }
        }
    }

    /// Fisher-Yates shuffle.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            items.swap(last, other);
        }
    }
}

/// Start of the stream that belongs to one tensor (FNV-1a over the name).
fn stream(seed: u64, name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(seed ^ mix(hash))
}

/// Initial values of a base tensor, row-major: matrices and kernels nearly normal with standard
/// deviation 0.02, norms 1, biases 0.
pub fn base(seed: u64, name: &str, role: Role, len: usize) -> Vec<f32> {
    match role {
        Role::Matrix | Role::ConvKernel => fill(seed, name, len, near_normal),
        Role::Norm => vec![1.0; len],
        Role::Bias => vec![0.0; len],
        Role::Packed | Role::Scale => unreachable!("only checkpoints hold packed matrices"),
    }
}

/// Values uniform in `[-bound, bound)`, row-major.
pub fn uniform(seed: u64, name: &str, bound: f32, len: usize) -> Vec<f32> {
    // 24 bits are exact in an f32.
    fill(seed, name, len, move |bits| {
        ((bits >> 40) as i32 - (1 << 23)) as f32 * (bound / (1 << 23) as f32)
    })
}

/// Sum of the four 16-bit parts, centred and scaled: an Irwin-Hall distribution, whose variance
/// is 4 / 12 of the squared range.
fn near_normal(bits: u64) -> f32 {
    let part = |shift: u32| ((bits >> shift) & 0xffff) as i32;
    let sum = part(0) + part(16) + part(32) + part(48) - 2 * 0xffff;
    const SCALE: f32 = STD * 1.732_050_8 / 65_536.0;
    sum as f32 * SCALE
}

fn fill(seed: u64, name: &str, len: usize, value: impl Fn(u64) -> f32 + Sync) -> Vec<f32> {
    let start = stream(seed, name);
    let mut values = vec![0.0; len];
    let threads = thread::available_parallelism().map_or(1, |n| n.get());
    let chunk = len.div_ceil(threads).max(1 << 16);
    let value = &value;
    thread::scope(|scope| {
        for (part, slots) in values.chunks_mut(chunk).enumerate() {
            scope.spawn(move || {
                for (offset, slot) in slots.iter_mut().enumerate() {
                    let index = (part * chunk + offset) as u64 + 1;
                    *slot = value(mix(start.wrapping_add(index.wrapping_mul(GAMMA))));
                }
            });
        }
    });
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_pinned_to_the_bit() {
        // Computed independently, in Python, from the definitions above.
        let bits = |values: Vec<f32>| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(
            bits(base(7, "model.embed_tokens.weight", Role::Matrix, 3)),
            [0x3ab3_db2d, 0x3ca0_a046, 0xbbbb_d746]
        );
        assert_eq!(bits(uniform(7, "a", 0.25, 2)), [0xbe38_82f6, 0xbe52_b3ae]);
    }

    #[test]
    fn a_prefix_does_not_depend_on_the_length() {
        let long = base(1, "x", Role::Matrix, 300_000);
        assert_eq!(base(1, "x", Role::Matrix, 1_000), long[..1_000]);
        assert_eq!(base(1, "x", Role::Matrix, 70_000), long[..70_000]);
    }

    #[test]
    fn matrices_have_the_stated_mean_and_deviation() {
        let values = base(3, "w", Role::Matrix, 200_000);
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = values
            .iter()
            .map(|&v| (f64::from(v) - mean).powi(2))
            .sum::<f64>()
            / n;
        assert!(mean.abs() < 2e-4, "{mean}");
        assert!((variance.sqrt() - 0.02).abs() < 2e-4, "{}", variance.sqrt());
    }

    #[test]
    fn names_and_seeds_give_different_values() {
        let first = base(0, "a", Role::Matrix, 8);
        assert_ne!(first, base(0, "b", Role::Matrix, 8));
        assert_ne!(first, base(1, "a", Role::Matrix, 8));
    }

    #[test]
    fn uniform_values_stay_within_the_bound() {
        let values = uniform(0, "a", 0.5, 10_000);
        assert!(values.iter().all(|v| (-0.5..0.5).contains(v)));
        assert!(values.iter().any(|&v| v < -0.49) && values.iter().any(|&v| v > 0.49));
    }

    #[test]
    fn a_shuffle_is_a_permutation_fixed_by_its_seed() {
        let shuffled = |seed| {
            let mut items: Vec<_> = (0..50).collect();
            Generator::new(seed).shuffle(&mut items);
            items
        };
        let mut sorted = shuffled(9);
        assert_eq!(sorted, shuffled(9));
        assert_ne!(sorted, shuffled(10));
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    }
}
