//! A trigram model of tokens, for a loss that a language model has to stay below.
//!
//! Interpolated Kneser-Ney smoothing with one discount an order (Chen and Goodman 1999,
//! doi:10.1006/csla.1999.0128, section 3.1 and equation 4.6), down to a uniform distribution:
//!
//! ```text
//! p(w | u v) = (max(c(u v w) - D3, 0) + D3 N(u v •) p(w | v)) / c(u v •)
//! p(w | v)   = (max(N(• v w) - D2, 0) + D2 N(v •)   p(w))     / N(• v •)
//! p(w)       = (max(N(• w)   - D1, 0) + D1 N(•)     / V)      / N(• •)
//! ```
//!
//! `c` counts trigrams. `N` counts different ones: `N(• v w)` the tokens that came before `v w`,
//! `N(v •)` the tokens that came after `v`, `N(• v •)` the sum of `N(• v w)` over `w`. `V` is the
//! size of the vocabulary. Where nothing is known of a context, the next shorter one decides. A
//! discount is `D = n1 / (n1 + 2 n2)` with `n1` and `n2` the number of its order's counts that are 1
//! and 2 (equation 2.14; Ney, Essen and Kneser 1994).

use std::collections::HashMap;

/// What was counted in a sequence of tokens.
#[derive(Clone, Debug)]
pub struct Trigram {
    vocabulary: usize,
    trigrams: Order<(u32, u32, u32), (u32, u32)>,
    bigrams: Order<(u32, u32), u32>,
    unigrams: Order<u32, ()>,
}

/// Counts of one length.
#[derive(Clone, Debug)]
struct Order<Gram, Context> {
    counts: HashMap<Gram, u32>,
    contexts: HashMap<Context, Seen>,
    discount: f64,
}

/// What came after a context.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Sum of the counts.
    total: u32,
    /// Different tokens.
    distinct: u32,
}

impl<Gram, Context> Order<Gram, Context>
where
    Gram: Copy + Eq + std::hash::Hash,
    Context: Eq + std::hash::Hash,
{
    fn new(counts: HashMap<Gram, u32>, context: impl Fn(Gram) -> Context) -> Self {
        let mut contexts: HashMap<Context, Seen> = HashMap::new();
        let (mut once, mut twice) = (0_u32, 0_u32);
        for (&gram, &count) in &counts {
            let seen = contexts.entry(context(gram)).or_default();
            seen.total += count;
            seen.distinct += 1;
            once += u32::from(count == 1);
            twice += u32::from(count == 2);
        }
        let discount = match once {
            0 => 0.0,
            _ => f64::from(once) / (f64::from(once) + 2.0 * f64::from(twice)),
        };
        Self {
            counts,
            contexts,
            discount,
        }
    }

    /// The probability of a gram's last token, with `shorter` that of the next shorter gram.
    fn probability(&self, gram: Gram, context: Context, shorter: f64) -> f64 {
        let Some(seen) = self.contexts.get(&context) else {
            return shorter;
        };
        let count = self.counts.get(&gram).copied().unwrap_or(0);
        let kept = (f64::from(count) - self.discount).max(0.0);
        let given = self.discount * f64::from(seen.distinct) * shorter;
        (kept + given) / f64::from(seen.total)
    }
}

impl Trigram {
    /// Counts the tokens of a text, all below `vocabulary`.
    pub fn new(tokens: &[u32], vocabulary: usize) -> Self {
        let mut trigrams: HashMap<_, u32> = HashMap::new();
        for gram in tokens.windows(3) {
            *trigrams.entry((gram[0], gram[1], gram[2])).or_default() += 1;
        }
        let mut bigrams: HashMap<_, u32> = HashMap::new();
        for &(_, v, w) in trigrams.keys() {
            *bigrams.entry((v, w)).or_default() += 1;
        }
        let mut unigrams: HashMap<_, u32> = HashMap::new();
        for &(_, w) in bigrams.keys() {
            *unigrams.entry(w).or_default() += 1;
        }
        Self {
            vocabulary,
            trigrams: Order::new(trigrams, |(u, v, _)| (u, v)),
            bigrams: Order::new(bigrams, |(v, _)| v),
            unigrams: Order::new(unigrams, |_| ()),
        }
    }

    /// Probability of `w` after `u v`.
    pub fn probability(&self, u: u32, v: u32, w: u32) -> f64 {
        let uniform = 1.0 / self.vocabulary as f64;
        let one = self.unigrams.probability(w, (), uniform);
        let two = self.bigrams.probability((v, w), v, one);
        self.trigrams.probability((u, v, w), (u, v), two)
    }

    /// Mean loss in nats of every token after the first two; `None` of fewer than three, or where a
    /// token is impossible.
    pub fn loss(&self, tokens: &[u32]) -> Option<f64> {
        let grams = tokens.windows(3);
        let count = grams.len();
        let sum: f64 = grams
            .map(|gram| -self.probability(gram[0], gram[1], gram[2]).ln())
            .sum();
        (count > 0 && sum.is_finite()).then(|| sum / count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a b a b c` as 0 1 0 1 2, in a vocabulary of 4.
    ///
    /// Trigrams `aba`, `bab`, `abc`, once each: n1 = 3, n2 = 0, so D3 = 1. Bigrams by what came before:
    /// `ba`, `ab`, `bc` once each: D2 = 1. Tokens by what came before: `a`, `b`, `c` once each: D1 = 1.
    const TEXT: [u32; 5] = [0, 1, 0, 1, 2];

    fn check(trigram: &Trigram, gram: [u32; 3], expected: f64) {
        let [u, v, w] = gram;
        let found = trigram.probability(u, v, w);
        assert!((found - expected).abs() < 1e-12, "{gram:?}: {found}");
    }

    #[test]
    fn where_all_counts_are_one_everything_is_left_to_the_uniform_distribution() {
        let trigram = Trigram::new(&TEXT, 4);
        for w in 0..4 {
            check(&trigram, [0, 1, w], 0.25);
            check(&trigram, [3, 3, w], 0.25);
        }
    }

    #[test]
    fn probabilities_are_those_computed_by_hand() {
        // a b a b a c: trigrams aba 2, bab 1, bac 1, so D3 = 2 / (2 + 2) = 1/2.
        // Bigrams by what came before: ba 1 (a), ab 1 (b), ac 1 (b): D2 = 1.
        // Tokens by what came before: a 1 (b), b 1 (a), c 1 (a): D1 = 1, and p(w) = 1/4 for all.
        // p(w | v) = D2 N(v •) p(w) / N(• v •) = p(w) where all counts are 1.
        let trigram = Trigram::new(&[0, 1, 0, 1, 0, 2], 4);
        check(&trigram, [0, 1, 0], (1.5 + 0.5 * 0.25) / 2.0);
        check(&trigram, [0, 1, 2], 0.5 * 0.25 / 2.0);
        check(&trigram, [1, 0, 1], (0.5 + 0.5 * 2.0 * 0.25) / 2.0);
        check(&trigram, [1, 0, 3], 0.5 * 2.0 * 0.25 / 2.0);
        check(&trigram, [2, 2, 0], 0.25);
        let loss = trigram.loss(&[0, 1, 0, 2]).unwrap();
        let expected = -(0.8125_f64.ln() + 0.375_f64.ln()) / 2.0;
        assert!((loss - expected).abs() < 1e-12, "{loss}");
    }

    #[test]
    fn shorter_contexts_count_what_came_before_and_not_how_often() {
        // 2 occurs three times, after 0, 1 and 3; 4 occurs five times, after 2 and 4.
        let trigram = Trigram::new(&[3, 0, 2, 1, 2, 3, 2, 4, 4, 4, 4, 4], 6);
        let [two, four] = [2, 4].map(|w| trigram.probability(5, 5, w));
        assert!(two > four, "{two} {four}");
    }

    #[test]
    fn probabilities_add_up_to_one() {
        let tokens: Vec<u32> = (0..400_u32).map(|i| i.pow(3) % 11 + (i / 7) % 4).collect();
        let trigram = Trigram::new(&tokens, 20);
        for (u, v) in [(0, 1), (3, 5), (10, 2), (19, 19), (7, 18)] {
            let sum: f64 = (0..20).map(|w| trigram.probability(u, v, w)).sum();
            assert!((sum - 1.0).abs() < 1e-12, "after {u} {v}: {sum}");
        }
    }

    #[test]
    fn too_few_tokens_have_no_loss() {
        assert_eq!(Trigram::new(&TEXT, 4).loss(&[0, 1]), None);
    }
}
