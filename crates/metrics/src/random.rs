//! A small seeded generator for resampling and for series of known truth.
//!
//! Results must not change between platforms or builds, so nothing here depends on the system's
//! entropy.

/// Increment of the SplitMix64 sequence, the odd integer nearest to 2^64 over the golden ratio.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195).
#[derive(Clone, Debug)]
pub struct Generator(u64);

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The generator of one member of a family, such as one simulation of many: neighbouring
    /// indices give unrelated sequences.
    pub fn stream(seed: u64, index: u64) -> Self {
        Self(mix(seed ^ mix(index.wrapping_add(GAMMA))))
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// Uniform in the open interval from 0 to 1.
    pub fn uniform(&mut self) -> f64 {
        // 53 bits are exact in an f64; the half keeps 0 and 1 out.
        ((self.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Uniform in `0..bound`, without bias (Lemire 2019, doi:10.1145/3230636).
    ///
    /// # Panics
    ///
    /// If `bound` is zero.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "an empty range has no element");
        let bound = bound as u64;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            if (product as u64) >= bound.wrapping_neg() % bound {
                return (product >> 64) as usize;
            }
        }
    }

    /// Standard normal (Box and Muller 1958, doi:10.1214/aoms/1177706645).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_splitmix64() {
        // First outputs of the reference implementation (prng.di.unimi.it/splitmix64.c), seed 0.
        let mut generator = Generator::new(0);
        assert_eq!(generator.next_u64(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(generator.next_u64(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn numbers_have_the_stated_moments() {
        let mut generator = Generator::stream(3, 0);
        let n = 100_000;
        let normal: Vec<f64> = (0..n).map(|_| generator.normal()).collect();
        let mean = normal.iter().sum::<f64>() / f64::from(n);
        let variance = normal.iter().map(|x| x * x).sum::<f64>() / f64::from(n);
        let kurtosis = normal.iter().map(|x| x.powi(4)).sum::<f64>() / f64::from(n);
        // Four standard errors of each.
        assert!(mean.abs() < 0.0127, "{mean}");
        assert!((variance - 1.0).abs() < 0.018, "{variance}");
        assert!((kurtosis - 3.0).abs() < 0.125, "{kurtosis}");
        let uniform = (0..n).map(|_| generator.uniform()).sum::<f64>() / f64::from(n);
        assert!((uniform - 0.5).abs() < 0.0037, "{uniform}");
    }

    #[test]
    fn bounded_numbers_reach_every_value_and_no_other() {
        let mut generator = Generator::new(5);
        let mut seen = [false; 7];
        for _ in 0..200 {
            seen[generator.below(7)] = true;
        }
        assert_eq!(seen, [true; 7]);
    }

    #[test]
    fn streams_are_repeatable_and_differ() {
        let first = |seed, index| Generator::stream(seed, index).next_u64();
        assert_eq!(first(1, 2), first(1, 2));
        assert_ne!(first(1, 2), first(1, 3));
        assert_ne!(first(1, 2), first(2, 2));
    }
}
