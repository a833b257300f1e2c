//! How much of a generated text is copied from the text that a model was trained on.

use std::collections::HashMap;

/// Tokens of the longest run that occurs in both.
///
/// Runs are looked for from every pair of neighbours that both have, so that of short texts the
/// time is about that of one pass over `training`.
pub fn longest_shared_run(generated: &[u32], training: &[u32]) -> usize {
    let mut places: HashMap<&[u32], Vec<usize>> = HashMap::new();
    for (at, pair) in generated.windows(2).enumerate() {
        places.entry(pair).or_default().push(at);
    }
    let from = |start: usize, at: usize| {
        let pairs = generated[at..].iter().zip(&training[start..]);
        pairs.take_while(|(left, right)| left == right).count()
    };
    let longest = training
        .windows(2)
        .enumerate()
        .filter_map(|(start, pair)| Some((start, places.get(pair)?)))
        .flat_map(|(start, places)| places.iter().map(move |&at| from(start, at)))
        .max();
    // Without a common pair one token may still be shared.
    longest.unwrap_or_else(|| {
        generated
            .iter()
            .any(|token| training.contains(token))
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_run_is_found_wherever_it_is() {
        let check = |generated: &[u32], training: &[u32], expected| {
            let found = longest_shared_run(generated, training);
            assert_eq!(found, expected, "{generated:?} in {training:?}");
        };
        let training = [1, 2, 3, 4, 5, 1, 2, 9, 4, 5, 6];
        check(&[4, 5, 6], &training, 3);
        check(&[7, 1, 2, 3, 4, 7, 4, 5], &training, 4);
        check(&[3, 2, 1], &training, 1);
        check(&[7, 8], &training, 0);
        check(&[1, 2, 1, 2, 9, 9], &training, 3);
        check(&training, &training, training.len());
        check(&[], &training, 0);
        check(&[1, 2], &[], 0);
    }

    #[test]
    fn neighbours_count_and_not_places_apart() {
        assert_eq!(longest_shared_run(&[1, 2, 3], &[1, 2, 0, 2, 3]), 2);
    }
}
