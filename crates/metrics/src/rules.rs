//! The rule table: every word that a report may judge with, and every threshold behind one.
//!
//! The library judges by these numbers alone. They are recorded with what was judged, so that a
//! verdict can be traced to the rule that gave it. METHODOLOGY.md holds the same table; a test
//! keeps the two equal.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

#[derive(Clone, Copy, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    pub steadiness: SteadinessRules,
    pub leak: LeakRules,
    pub comparison: ComparisonRules,
    pub validity: ValidityRules,
}

/// When a run is steady.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SteadinessRules {
    /// Fewer samples than this, after the warm-up, are too few to tell.
    pub fewest_samples: usize,
    /// Level of the tests of trend and of level shift, each.
    pub significance: f64,
    /// A change over the run smaller than this share of the median is no change.
    pub smallest_change: f64,
    /// Probability with which a sample after a shift must lie beyond one before it.
    pub separation: f64,
    /// Samples each side of a shift.
    pub fewest_each_side: usize,
    /// Spread of the middle 90 % of samples, in standard deviations of a normal distribution and
    /// as a share of the median, above which there is no steady state.
    pub largest_spread: f64,
    /// Half-width of the median's interval, as a share of the median, above which there is no
    /// steady state.
    pub level_precision: f64,
    /// Of the intervals.
    pub confidence: f64,
}

impl Default for SteadinessRules {
    fn default() -> Self {
        Self {
            fewest_samples: 20,
            significance: 0.02,
            smallest_change: 0.01,
            separation: 0.85,
            fewest_each_side: 5,
            largest_spread: 0.05,
            level_precision: 0.05,
            confidence: 0.95,
        }
    }
}

/// When memory leaks.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeakRules {
    /// Fewer readings than this, after the warm-up, are too few to tell.
    pub fewest_readings: usize,
    /// Of the interval of the slope, which must lie above 0.
    pub confidence: f64,
    /// With which a leak of the smallest size that is stated would have been found.
    pub power: f64,
    /// Growth over the run below the larger of this many bytes and the share below is none.
    pub smallest_growth_bytes: f64,
    pub smallest_growth_share: f64,
    /// A run that could only have seen a larger growth than this share of the level is not
    /// called flat.
    pub blind_share: f64,
    /// Steps explain growth where they leave at most this share of the deviations that a line
    /// leaves.
    pub staircase_rest: f64,
    /// Probability with which a reading on one level must lie above one on the level before.
    pub separation: f64,
    /// Levels of a staircase; growth in more of them is a leak.
    pub most_levels: usize,
}

impl Default for LeakRules {
    fn default() -> Self {
        Self {
            fewest_readings: 20,
            confidence: 0.99,
            power: 0.8,
            smallest_growth_bytes: 1_048_576.0,
            smallest_growth_share: 0.001,
            blind_share: 0.05,
            staircase_rest: 0.75,
            separation: 0.85,
            most_levels: 8,
        }
    }
}

/// When two sets of runs differ.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ComparisonRules {
    /// The smallest change that matters, as a ratio less 1: 0.02 means 1.02 or 1 / 1.02.
    pub practical: f64,
    /// Probability of finding a change in any metric where there is none. The one-sided tests
    /// of equivalence have it too, each.
    pub error_rate: f64,
    /// With which the smallest detectable change would have been found, and the number of runs
    /// that is asked for would decide.
    pub power: f64,
    /// Pairs from which interleaved runs are decided by their paired differences. With fewer,
    /// a t quantile at half the degrees of freedom costs more than pairing usually gains; the
    /// unpaired interval then decides, which drift only makes wider.
    pub pairs_to_decide: usize,
}

impl Default for ComparisonRules {
    fn default() -> Self {
        Self {
            practical: 0.02,
            error_rate: 0.05,
            power: 0.8,
            pairs_to_decide: 10,
        }
    }
}

/// When a run is marked for what happened to its machine.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ValidityRules {
    /// Growth of swap in use during a run, in bytes, above which it is marked.
    pub swap_growth_bytes: f64,
    /// Share of the CPU time that other guests had, above which it is marked.
    pub steal_share: f64,
}

impl Default for ValidityRules {
    fn default() -> Self {
        Self {
            swap_growth_bytes: 67_108_864.0,
            steal_share: 0.05,
        }
    }
}

/// What a group of rules is about; its name is the table of the thresholds in a TOML file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Steadiness,
    Leak,
    Comparison,
    Validity,
}

impl Group {
    pub const ALL: [Self; 4] = [
        Self::Steadiness,
        Self::Leak,
        Self::Comparison,
        Self::Validity,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Steadiness => "steadiness",
            Self::Leak => "leak",
            Self::Comparison => "comparison",
            Self::Validity => "validity",
        }
    }
}

/// A word that a report may judge with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    pub group: Group,
    pub word: &'static str,
    /// When it is given, as Markdown, with the thresholds of its group by name.
    pub rule: &'static str,
}

/// Every word that a report may judge with, in the order of the verdicts.
pub const WORDS: [Word; 21] = {
    const fn word(group: Group, word: &'static str, rule: &'static str) -> Word {
        Word { group, word, rule }
    }
    use Group::{Comparison, Leak, Steadiness, Validity};
    [
        word(
            Steadiness,
            "steady",
            "there is neither a trend nor a level shift, the spread is at most `largest-spread`, \
             and the median's interval reaches at most `level-precision` to either side",
        ),
        word(
            Steadiness,
            "warming up",
            "there is a trend to shorter times; or, where a warm-up was cropped, a level shift to \
             shorter ones, or too wide a spread for a level and a fall by `smallest-change`",
        ),
        word(
            Steadiness,
            "slowing down",
            "there is a trend to longer times",
        ),
        word(
            Steadiness,
            "shifted",
            "there is a level shift, and no trend whose line leaves smaller deviations",
        ),
        word(
            Steadiness,
            "no steady state",
            "there is neither a trend nor a level shift, and the spread or the median's interval \
             is wider than a level allows",
        ),
        word(
            Steadiness,
            "too short to tell",
            "fewer values than `fewest-samples` are left after the warm-up",
        ),
        word(
            Leak,
            "leak",
            "the slope's interval lies above 0, the growth over the run is no smaller than the \
             smallest growth, and steps do not explain it",
        ),
        word(
            Leak,
            "cache growth",
            "MLX's cache grew with every iteration; a run has it where its active memory is flat, \
             and its cache grew so or in steps",
        ),
        word(
            Leak,
            "staircase",
            "the slope's interval lies above 0, steps explain it, and the last level is above the \
             first by no less than the smallest growth",
        ),
        word(
            Leak,
            "flat",
            "no growth with an interval above 0 reaches the smallest growth, and one of `blind-share` \
             of the level, or of the smallest growth where that is more, would have been seen",
        ),
        word(
            Leak,
            "cannot tell",
            "fewer readings than `fewest-readings` are left after the warm-up, or a growth of \
             `blind-share` of the level, or of the smallest growth where that is more, could have \
             been missed",
        ),
        word(
            Comparison,
            "regressed",
            "the adjusted interval excludes no change, and the change for the worse is at least \
             the larger of `practical` and this machine's noise",
        ),
        word(Comparison, "improved", "the same for the better"),
        word(
            Comparison,
            "equivalent",
            "both one-sided tests at `error-rate` find the change within `practical`",
        ),
        word(
            Comparison,
            "changed but small",
            "as equivalent, and the adjusted interval excludes no change",
        ),
        word(
            Comparison,
            "inconclusive",
            "none of these, or one run in an arm",
        ),
        word(
            Comparison,
            "void",
            "the machine was not in one state throughout",
        ),
        word(Comparison, "not comparable", "the arms did different work"),
        word(
            Validity,
            "disturbed",
            "the thermal state rose, the power source or the energy mode changed, swap in use grew \
             by more than `swap-growth-bytes`, or the GPU lowered its clock for heat or by \
             hardware; a comparison with such a run is void",
        ),
        word(
            Validity,
            "shared hardware",
            "no such change, and in a virtual machine, or with more than `steal-share` of the CPU \
             time gone to other guests; such runs are compared with each other, with a warning, and \
             never ranked beside hardware",
        ),
        word(
            Validity,
            "unmarked",
            "nothing that was read is a reason for either",
        ),
    ]
};

/// The word's rule; the words of one group differ.
pub fn rule_of(group: Group, word: &str) -> Option<&'static str> {
    let found = |entry: &&Word| entry.group == group && entry.word == word;
    WORDS.iter().find(found).map(|entry| entry.rule)
}

/// A term that the rules of [`WORDS`] use, and what it means.
pub const TERMS: [(&str, &str); 5] = [
    (
        "trend",
        "Mann-Kendall's p is below `steadiness.significance`, and the Theil-Sen line changes by \
         at least `steadiness.smallest-change` over the run",
    ),
    (
        "level shift",
        "Pettitt's p is below `steadiness.significance`, the medians differ by at least \
         `steadiness.smallest-change`, and the sides are apart by `steadiness.separation`",
    ),
    (
        "spread",
        "(p95 - p5) / 3.29 as a share of the median: the CV, for normally distributed times",
    ),
    (
        "smallest growth",
        "the larger of `leak.smallest-growth-bytes` and `leak.smallest-growth-share` of the level",
    ),
    (
        "steps",
        "up to `leak.most-levels` levels, each above the one before by `leak.separation`, that \
         leave at most `leak.staircase-rest` of the deviations from a line",
    ),
];

/// One threshold of a [`Rules`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    pub group: Group,
    /// As in a TOML file (`fewest-samples`).
    pub name: &'static str,
    pub value: f64,
    /// The values it may have, in words.
    pub allowed: &'static str,
    /// What it decides, as Markdown.
    pub meaning: &'static str,
}

/// Why a threshold was refused.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum RuleError {
    #[error("{group}.{name} is no threshold; {group} has {known}")]
    Unknown {
        group: &'static str,
        name: String,
        known: String,
    },
    #[error("{group}.{name} is {value}; it must be {allowed}")]
    Value {
        group: &'static str,
        name: &'static str,
        value: f64,
        allowed: &'static str,
    },
}

impl Rules {
    /// Every threshold, in the order of the table.
    pub fn thresholds(&self) -> Vec<Threshold> {
        let mut copy = *self;
        copy.rows()
            .into_iter()
            .map(|row| Threshold {
                group: row.group,
                name: row.name,
                value: row.slot.get(),
                allowed: row.allowed.words,
                meaning: row.meaning,
            })
            .collect()
    }

    /// Sets one threshold, named as in a TOML file.
    ///
    /// # Errors
    ///
    /// A name that the group does not have, and a value that it may not have.
    pub fn set(&mut self, group: Group, name: &str, value: f64) -> Result<(), RuleError> {
        let mut rows = self.rows();
        rows.retain(|row| row.group == group);
        let known: Vec<&str> = rows.iter().map(|row| row.name).collect();
        let known = known.join(", ");
        let row = rows.into_iter().find(|row| row.name == name);
        let mut row = row.ok_or_else(|| RuleError::Unknown {
            group: group.name(),
            name: name.to_owned(),
            known,
        })?;
        row.check(value)?;
        row.slot.set(value);
        Ok(())
    }

    /// Checks that every threshold has a value it may have.
    ///
    /// # Errors
    ///
    /// The first one that has not.
    pub fn validate(&self) -> Result<(), RuleError> {
        let mut copy = *self;
        copy.rows()
            .iter()
            .try_for_each(|row| row.check(row.slot.get()))
    }

    /// The table itself: the one place that lists every threshold.
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self {
            steadiness,
            leak,
            comparison,
            validity,
        } = self;
        let row = |group| {
            move |name, slot, allowed, meaning| Row {
                group,
                name,
                slot,
                allowed,
                meaning,
            }
        };
        let s = row(Group::Steadiness);
        let l = row(Group::Leak);
        let c = row(Group::Comparison);
        let v = row(Group::Validity);
        vec![
            s(
                "fewest-samples",
                Slot::Whole(&mut steadiness.fewest_samples),
                FROM_3,
                "values after the warm-up with which a run is judged",
            ),
            s(
                "significance",
                Slot::Number(&mut steadiness.significance),
                BETWEEN_0_AND_1,
                "p below which there may be a trend, and below which there may be a level shift",
            ),
            s(
                "smallest-change",
                Slot::Number(&mut steadiness.smallest_change),
                FROM_0,
                "smallest trend over the run, and smallest level shift, as a share of the median",
            ),
            s(
                "separation",
                Slot::Number(&mut steadiness.separation),
                FROM_HALF_TO_1,
                "probability that a time after a level shift lies beyond one before it",
            ),
            s(
                "fewest-each-side",
                Slot::Whole(&mut steadiness.fewest_each_side),
                FROM_1,
                "values on either side of a level shift",
            ),
            s(
                "largest-spread",
                Slot::Number(&mut steadiness.largest_spread),
                ABOVE_0,
                "largest spread of a level",
            ),
            s(
                "level-precision",
                Slot::Number(&mut steadiness.level_precision),
                ABOVE_0,
                "half of the median's interval, at most, as a share of the median",
            ),
            s(
                "confidence",
                Slot::Number(&mut steadiness.confidence),
                FROM_HALF_BELOW_1,
                "of the intervals of step times",
            ),
            l(
                "fewest-readings",
                Slot::Whole(&mut leak.fewest_readings),
                FROM_3,
                "readings after the warm-up with which a series is judged",
            ),
            l(
                "confidence",
                Slot::Number(&mut leak.confidence),
                FROM_HALF_BELOW_1,
                "of the slope's interval",
            ),
            l(
                "power",
                Slot::Number(&mut leak.power),
                FROM_HALF_BELOW_1,
                "probability of finding a growth as large as the smallest visible one",
            ),
            l(
                "smallest-growth-bytes",
                Slot::Number(&mut leak.smallest_growth_bytes),
                FROM_0,
                "growth over the run in bytes that is none",
            ),
            l(
                "smallest-growth-share",
                Slot::Number(&mut leak.smallest_growth_share),
                FROM_0,
                "the same as a share of the median reading",
            ),
            l(
                "blind-share",
                Slot::Number(&mut leak.blind_share),
                ABOVE_0,
                "growth over the run, as a share of the median reading, that must have been \
                 visible before a series is flat",
            ),
            l(
                "staircase-rest",
                Slot::Number(&mut leak.staircase_rest),
                FROM_0_TO_1,
                "share of the deviations from a line that steps may leave to explain growth",
            ),
            l(
                "separation",
                Slot::Number(&mut leak.separation),
                FROM_HALF_TO_1,
                "probability that a reading on one step lies above one on the step before",
            ),
            l(
                "most-levels",
                Slot::Whole(&mut leak.most_levels),
                FROM_1,
                "levels of a staircase; growth in more is a leak",
            ),
            c(
                "practical",
                Slot::Number(&mut comparison.practical),
                ABOVE_0,
                "smallest change that matters, as a ratio less 1",
            ),
            c(
                "error-rate",
                Slot::Number(&mut comparison.error_rate),
                ABOVE_0_BELOW_HALF,
                "probability of finding a change in any metric where there is none",
            ),
            c(
                "power",
                Slot::Number(&mut comparison.power),
                FROM_HALF_BELOW_1,
                "probability of finding the minimum detectable change",
            ),
            c(
                "pairs-to-decide",
                Slot::Whole(&mut comparison.pairs_to_decide),
                FROM_2,
                "pairs from which the paired differences of interleaved runs decide",
            ),
            v(
                "swap-growth-bytes",
                Slot::Number(&mut validity.swap_growth_bytes),
                FROM_0,
                "growth of swap in use during a run that disturbs it",
            ),
            v(
                "steal-share",
                Slot::Number(&mut validity.steal_share),
                FROM_0_TO_1,
                "share of the CPU time gone to other guests, above which hardware is shared",
            ),
        ]
    }
}

struct Row<'a> {
    group: Group,
    name: &'static str,
    slot: Slot<'a>,
    allowed: Allowed,
    meaning: &'static str,
}

impl Row<'_> {
    fn check(&self, value: f64) -> Result<(), RuleError> {
        let is_whole = value.fract() == 0.0 && value <= f64::from(u32::MAX);
        let fits = is_whole || matches!(self.slot, Slot::Number(_));
        if value.is_finite() && fits && (self.allowed.holds)(value) {
            return Ok(());
        }
        Err(RuleError::Value {
            group: self.group.name(),
            name: self.name,
            value,
            allowed: self.allowed.words,
        })
    }
}

enum Slot<'a> {
    Whole(&'a mut usize),
    Number(&'a mut f64),
}

impl Slot<'_> {
    fn get(&self) -> f64 {
        match self {
            Self::Whole(whole) => **whole as f64,
            Self::Number(number) => **number,
        }
    }

    fn set(&mut self, value: f64) {
        match self {
            Self::Whole(whole) => **whole = value as usize,
            Self::Number(number) => **number = value,
        }
    }
}

#[derive(Clone, Copy)]
struct Allowed {
    words: &'static str,
    holds: fn(f64) -> bool,
}

const FROM_1: Allowed = Allowed {
    words: "a whole number from 1",
    holds: |x| x >= 1.0,
};
const FROM_2: Allowed = Allowed {
    words: "a whole number from 2",
    holds: |x| x >= 2.0,
};
const FROM_3: Allowed = Allowed {
    words: "a whole number from 3",
    holds: |x| x >= 3.0,
};
const FROM_0: Allowed = Allowed {
    words: "0 or more",
    holds: |x| x >= 0.0,
};
const ABOVE_0: Allowed = Allowed {
    words: "above 0",
    holds: |x| x > 0.0,
};
const BETWEEN_0_AND_1: Allowed = Allowed {
    words: "above 0 and below 1",
    holds: |x| 0.0 < x && x < 1.0,
};
const ABOVE_0_BELOW_HALF: Allowed = Allowed {
    words: "above 0 and below 0.5",
    holds: |x| 0.0 < x && x < 0.5,
};
const FROM_0_TO_1: Allowed = Allowed {
    words: "from 0 to 1",
    holds: |x| (0.0..=1.0).contains(&x),
};
const FROM_HALF_TO_1: Allowed = Allowed {
    words: "from 0.5 to 1",
    holds: |x| (0.5..=1.0).contains(&x),
};
const FROM_HALF_BELOW_1: Allowed = Allowed {
    words: "from 0.5 to below 1",
    holds: |x| (0.5..1.0).contains(&x),
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_has_every_threshold_of_the_record() {
        let recorded = serde_json::to_value(Rules::default()).unwrap();
        let mut of_record = BTreeSet::new();
        for (group, fields) in recorded.as_object().unwrap() {
            for (name, value) in fields.as_object().unwrap() {
                let name = name.replace('_', "-");
                of_record.insert(format!("{group}.{name} = {}", value.as_f64().unwrap()));
            }
        }
        let thresholds = Rules::default().thresholds();
        let of_table: BTreeSet<_> = thresholds
            .iter()
            .map(|t| format!("{}.{} = {}", t.group.name(), t.name, t.value))
            .collect();
        assert_eq!(of_table, of_record);
        assert_eq!(Rules::default().validate(), Ok(()));
    }

    #[test]
    fn every_threshold_can_be_set_by_its_name() {
        for threshold in Rules::default().thresholds() {
            // Doubled counts and slightly smaller numbers are within every range.
            let value = match threshold.value.fract() == 0.0 {
                true => 2.0 * threshold.value,
                false => 0.99 * threshold.value,
            };
            let mut rules = Rules::default();
            rules.set(threshold.group, threshold.name, value).unwrap();
            let changed: Vec<_> = rules
                .thresholds()
                .into_iter()
                .zip(Rules::default().thresholds())
                .filter(|(new, old)| new != old)
                .map(|(new, _)| (new.group, new.name, new.value))
                .collect();
            assert_eq!(changed, [(threshold.group, threshold.name, value)]);
        }
    }

    #[test]
    fn a_bad_threshold_is_named_with_what_would_do() {
        let check = |group, name: &str, value, expected: &str| {
            let mut rules = Rules::default();
            let error = rules.set(group, name, value).unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert_eq!(rules, Rules::default());
        };
        check(
            Group::Steadiness,
            "fewest-samples",
            2.0,
            "steadiness.fewest-samples is 2; it must be a whole number from 3",
        );
        check(
            Group::Steadiness,
            "fewest-samples",
            20.5,
            "steadiness.fewest-samples is 20.5; it must be a whole number from 3",
        );
        check(
            Group::Steadiness,
            "significance",
            1.0,
            "steadiness.significance is 1; it must be above 0 and below 1",
        );
        check(
            Group::Leak,
            "blind-share",
            f64::NAN,
            "leak.blind-share is NaN; it must be above 0",
        );
        check(
            Group::Leak,
            "power",
            f64::INFINITY,
            "leak.power is inf; it must be from 0.5 to below 1",
        );
        check(
            Group::Comparison,
            "practicall",
            0.01,
            "comparison.practicall is no threshold; comparison has practical, error-rate, power, \
             pairs-to-decide",
        );

        let mut rules = Rules::default();
        rules.leak.separation = 0.2;
        let error = rules.validate().unwrap_err().to_string();
        assert_eq!(error, "leak.separation is 0.2; it must be from 0.5 to 1");
    }

    #[test]
    fn every_verdict_has_a_rule() {
        use crate::steadiness::Verdict as Consistency;
        for verdict in [
            Consistency::Steady,
            Consistency::WarmingUp,
            Consistency::SlowingDown,
            Consistency::Shifted,
            Consistency::NoSteadyState,
            Consistency::TooShort,
        ] {
            assert!(rule_of(Group::Steadiness, verdict.word()).is_some());
        }
        use crate::leak::Verdict as Memory;
        for verdict in [
            Memory::Leak,
            Memory::CacheGrowth,
            Memory::Staircase,
            Memory::Flat,
            Memory::CannotTell,
        ] {
            assert!(rule_of(Group::Leak, verdict.word()).is_some());
        }
        use crate::comparison::Verdict as Change;
        let why = String::new();
        for verdict in [
            Change::Regressed,
            Change::Improved,
            Change::Equivalent,
            Change::ChangedButSmall,
            Change::Inconclusive { more_runs: None },
            Change::Void { why: why.clone() },
            Change::NotComparable { why },
        ] {
            assert!(rule_of(Group::Comparison, verdict.word()).is_some());
        }
        use crate::validity::Verdict as Validity;
        for verdict in [
            Validity::Disturbed,
            Validity::SharedHardware,
            Validity::Unmarked,
        ] {
            assert!(rule_of(Group::Validity, verdict.word()).is_some());
        }
        assert_eq!(rule_of(Group::Leak, "steady"), None);
    }

    /// The thresholds that a rule names exist, so a renamed one cannot leave its old name behind.
    #[test]
    fn rules_name_thresholds_that_exist() {
        let known: BTreeSet<String> = Rules::default()
            .thresholds()
            .iter()
            .flat_map(|t| [t.name.to_owned(), format!("{}.{}", t.group.name(), t.name)])
            .collect();
        let words = WORDS.iter().map(|word| word.rule);
        for text in words.chain(TERMS.iter().map(|term| term.1)) {
            for name in text.split('`').skip(1).step_by(2) {
                assert!(known.contains(name), "{name} in: {text}");
            }
        }
    }

    #[test]
    fn the_methodology_has_the_same_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../METHODOLOGY.md");
        let document = std::fs::read_to_string(path).unwrap();
        let thresholds = Rules::default().thresholds();
        let thresholds = thresholds.iter().map(|t| {
            format!(
                "| `{}.{}` | {} | {} | {} |",
                t.group.name(),
                t.name,
                t.value,
                t.allowed,
                t.meaning
            )
        });
        let words = WORDS
            .iter()
            .map(|w| format!("| {} | {} | {} |", w.group.name(), w.word, w.rule));
        let terms = TERMS
            .iter()
            .map(|(term, what)| format!("| {term} | {what} |"));
        let expected: Vec<String> = thresholds.chain(words).chain(terms).collect();
        let missing: Vec<_> = expected
            .iter()
            .filter(|row| !document.lines().any(|line| line == row.as_str()))
            .collect();
        assert!(missing.is_empty(), "METHODOLOGY.md lacks {missing:#?}");
        let row_of_rules = |line: &&str| {
            Group::ALL.iter().any(|group| {
                line.starts_with(&format!("| `{}.", group.name()))
                    || line.starts_with(&format!("| {} |", group.name()))
            })
        };
        let rows = document.lines().filter(row_of_rules).count();
        assert_eq!(rows, expected.len() - TERMS.len(), "rows of no rule");
    }
}
