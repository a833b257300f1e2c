//! Several runs: whether they can be compared, and how. Every command asks here.
//!
//! Two runs are compared where their work, the way it is done and their machine are alike. The
//! arms of one set may differ in the way, since that is what they are there to show, and then runs
//! of one arm have their build and every setting in common; other runs may differ in fields that are
//! allowed to.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::comparison::{self, Better, Circumstances, Design, Metric};
use crate::fields::{self, Difference, Fields, differing, listed, value_of};
use crate::figures::MetricKind;
use crate::key::{self, Key, VARIABLES};
use crate::rules::Rules;
use crate::run::Run;
use crate::validity;

/// Two arms of runs, ready to be compared.
pub(crate) struct Pairing<'a> {
    /// Baseline and candidate; where the design is interleaved, by their repeats.
    pub(crate) arms: [Vec<&'a Run>; 2],
    pub(crate) design: Design,
    pub(crate) circumstances: Circumstances,
    /// Repeats in which other guests of the hardware had too much of the CPU time.
    pub(crate) stolen: BTreeSet<u32>,
    /// Whether these are left out: as many others are left as decide by pairs.
    pub(crate) stolen_left_out: bool,
}

impl<'a> Pairing<'a> {
    /// Of the complete runs of both arms, which may differ in what `allowed` says.
    pub(crate) fn new(
        mut arms: [Vec<&'a Run>; 2],
        rules: &Rules,
        allowed: &dyn Fn(&str) -> bool,
    ) -> Self {
        let together = started_together(&arms);
        let stolen = match together {
            true => stolen(&arms, rules.validity.steal_share),
            false => BTreeSet::new(),
        };
        let kept = |run: &&Run| repeat(run).is_none_or(|repeat| !stolen.contains(&repeat));
        let left = |arm: &Vec<&Run>| arm.iter().filter(|run| kept(run)).count();
        let enough = rules.comparison.pairs_to_decide;
        let stolen_left_out = !stolen.is_empty() && arms.iter().all(|arm| left(arm) >= enough);
        if stolen_left_out {
            arms.iter_mut().for_each(|arm| arm.retain(kept));
        }
        if together {
            arms.iter_mut()
                .for_each(|arm| arm.sort_by_key(|run| repeat(run)));
        }
        let repeats =
            |arm: &[&Run]| -> Vec<Option<u32>> { arm.iter().map(|it| repeat(it)).collect() };
        // Without its neighbour a run is one of no pair.
        let in_pairs = together && repeats(&arms[0]) == repeats(&arms[1]);
        Self {
            design: match in_pairs {
                true => Design::Interleaved,
                false => Design::Independent,
            },
            circumstances: circumstances(&[&arms[0], &arms[1]], together, allowed),
            arms,
            stolen,
            stolen_left_out,
        }
    }

    /// The metrics that all runs of both arms have, as the comparison takes them.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let [baseline, candidate] = &self.arms;
        let alike = alike_texts(baseline.iter().chain(candidate).copied());
        let of = |metric: MetricKind| {
            if metric == MetricKind::TokenTime && !alike {
                return None;
            }
            let of = |runs: &[&Run]| -> Option<Vec<comparison::Run>> {
                let values = runs.iter().map(|run| run.metrics.get(&metric).cloned());
                values.collect()
            };
            Some(Metric {
                name: metric.name().to_owned(),
                better: Better::Lower,
                practical: None,
                baseline: of(baseline)?,
                candidate: of(candidate)?,
            })
        };
        MetricKind::ALL.into_iter().filter_map(of).collect()
    }
}

fn repeat(run: &Run) -> Option<u32> {
    run.member.as_ref().map(|member| member.repeat)
}

/// Whether the arms are two of one set.
fn started_together(arms: &[Vec<&Run>; 2]) -> bool {
    let names = |arm: &Vec<&Run>| -> BTreeSet<String> {
        let members = arm.iter().filter_map(|run| run.member.as_ref());
        members.map(|member| member.arm.clone()).collect()
    };
    let [baseline, candidate] = [names(&arms[0]), names(&arms[1])];
    let two_arms = baseline.len() == 1 && candidate.len() == 1 && baseline != candidate;
    two_arms && of_one_set(&arms.concat())
}

/// Whether these runs were started in turn, as one set: one name of it, and start times in the
/// order of the runs' numbers. Two sets of the same name, one after another, number their runs
/// alike.
pub(crate) fn of_one_set(runs: &[&Run]) -> bool {
    let members: Option<Vec<_>> = runs
        .iter()
        .map(|run| Some((run.member.as_ref()?, run.started_unix_ms)))
        .collect();
    let Some(mut members) = members else {
        return false;
    };
    members.sort_by_key(|(member, _)| member.number);
    members.windows(2).all(|pair| {
        let ((first, before), (second, after)) = (pair[0], pair[1]);
        first.set == second.set && first.number < second.number && before <= after
    })
}

/// Repeats in which other guests of the hardware had more than this share of the CPU time while a
/// process of either arm ran. None where a process does not say: leaving out the slow runs of one
/// arm alone would be no fair comparison.
fn stolen(arms: &[Vec<&Run>; 2], most: f64) -> BTreeSet<u32> {
    let shares: Option<Vec<(u32, f64)>> = arms
        .iter()
        .flatten()
        .map(|run| Some((repeat(run)?, run.conditions.stolen?)))
        .collect();
    let shares = shares.unwrap_or_default().into_iter();
    shares.filter(|it| it.1 > most).map(|it| it.0).collect()
}

/// What keeps runs from being compared, or makes their numbers worthless. Arms of one set are
/// `together`.
pub(crate) fn circumstances(
    arms: &[&[&Run]],
    together: bool,
    allowed: &dyn Fn(&str) -> bool,
) -> Circumstances {
    let mut found = unlike(arms, together);
    found.retain(|it| !allowed(&it.field));
    Circumstances {
        different_work: (!found.is_empty()).then(|| fields::texts(&found)),
        machine_changed: machine_changed(&arms.concat()),
    }
}

/// Nothing may differ.
pub(crate) fn nothing(_: &str) -> bool {
    false
}

/// The fields in which the runs of these arms differ and must not.
fn unlike(arms: &[&[&Run]], together: bool) -> Vec<Difference> {
    let all = arms.concat();
    let mut found = differences(&all, |key| &key.work);
    found.extend(machines(&all, together));
    let mut within = |part| found.extend(arms.iter().flat_map(|arm| differences(arm, part)));
    if together {
        within(|key: &Key| &key.build);
        within(|key| &key.how);
        within(|key| &key.settings);
    } else {
        found.extend(differences(&all, |key| &key.how));
    }
    found
}

/// The fields of this part of the key in which any run differs from the first one.
pub(crate) fn differences(runs: &[&Run], part: fn(&Key) -> &Rc<Fields>) -> Vec<Difference> {
    let fields = runs
        .iter()
        .map(|run| (run.name.as_str(), &**part(&run.key)));
    differing(&fields.collect::<Vec<_>>())
}

/// The fields in which any two of these runs were on different machines. Arms that are `together`
/// may run on different devices of one machine.
fn machines(runs: &[&Run], together: bool) -> Vec<Difference> {
    const DEVICE: [&str; 5] = ["device", "backend", "device_name", "gpu", "gpu_cores"];
    let mut found = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        for other in &runs[at + 1..] {
            if !Rc::ptr_eq(&run.key.machine, &other.key.machine) {
                found = differences(&[run, other], |key| &key.machine);
                found.retain(|it| !key::not_read(&it.field, &it.values));
                found.retain(|it| !(together && DEVICE.contains(&it.field.as_str())));
            }
            if !found.is_empty() {
                return found;
            }
        }
    }
    found
}

/// Why the machine was not in one state: a run was disturbed, or the runs, in the order of time,
/// began hotter, on another source of power, or in another energy mode.
pub(crate) fn machine_changed(runs: &[&Run]) -> Option<String> {
    let mut runs = runs.to_vec();
    runs.sort_by_key(|run| {
        let number = run.member.as_ref().map(|member| member.number);
        (run.started_unix_ms, number)
    });
    let disturbed = runs
        .iter()
        .find_map(|run| Some(format!("{} in {}", disturbance(run)?, run.name)));
    disturbed
        .or_else(|| {
            let mut known = runs
                .iter()
                .filter_map(|run| Some((run, run.conditions.thermal?)));
            let (first, (cool, _)) = known.next()?;
            let (run, (_, hot)) = known.find(|(_, (_, hot))| *hot > cool)?;
            Some(format!(
                "the thermal state rose from {cool} in {} to {hot} in {}",
                first.name, run.name
            ))
        })
        .or_else(|| changed("power source", &runs, |run| &run.conditions.power_source))
        .or_else(|| changed("energy mode", &runs, |run| &run.conditions.energy_mode))
}

/// Where a condition is not that of the first run that knows it.
fn changed(what: &str, runs: &[&Run], of: fn(&Run) -> &Option<String>) -> Option<String> {
    let mut known = runs.iter().filter_map(|run| Some((run, of(run).as_ref()?)));
    let (first, expected) = known.next()?;
    let (other, found) = known.find(|(_, value)| *value != expected)?;
    Some(format!(
        "the {what} was {expected} in {} and {found} in {}",
        first.name, other.name
    ))
}

/// Why a run is ranked with no other.
pub(crate) fn not_ranked(run: &Run) -> Option<String> {
    if !run.is_complete() {
        return Some("it did not complete".to_owned());
    }
    disturbance(run).map(|what| format!("void: {what}"))
}

/// What disturbed a run.
fn disturbance(run: &Run) -> Option<String> {
    marked(run, validity::Verdict::Disturbed)
}

/// What says that other guests may share the hardware of a run.
pub(crate) fn shared_hardware(run: &Run) -> Option<String> {
    marked(run, validity::Verdict::SharedHardware)
}

/// The first mark of a run that makes it this.
fn marked(run: &Run, verdict: validity::Verdict) -> Option<String> {
    let mut marks = run.marks.iter();
    let mark = marks.find(|mark| mark.verdict() == verdict)?;
    Some(mark.sentence())
}

/// A warning that this run was on shared hardware.
pub(crate) fn on_shared_hardware(run: &Run) -> String {
    format!(
        "{} ran on shared hardware, whose other guests may be the difference",
        run.name
    )
}

/// Whether these runs were on one machine.
pub(crate) fn one_machine(runs: &[&Run]) -> bool {
    machines(runs, false).is_empty()
}

/// That these runs, which may be on several devices, were on several machines.
pub(crate) fn several_machines(runs: &[&Run]) -> Option<String> {
    let found = machines(runs, true);
    (!found.is_empty()).then(|| format!("several machines: {}", fields::texts(&found)))
}

/// Why no time per token is compared: it depends on how many there are.
pub(crate) const TEXTS_DIFFER: &str =
    "the runs generated different numbers of tokens, so that their times per token are left out";

/// Whether all of these runs generated as many tokens after as many.
pub(crate) fn alike_texts<'a>(runs: impl IntoIterator<Item = &'a Run>) -> bool {
    let mut texts = runs.into_iter().map(|run| &run.texts);
    let first = texts.next();
    texts.all(|other| Some(other) == first)
}

/// One value a run; `None` where one lacks it, and for no run.
pub(crate) fn values(runs: &[&Run], value: impl Fn(&Run) -> Option<f64>) -> Option<Vec<f64>> {
    let values: Option<Vec<f64>> = runs.iter().map(|run| value(run)).collect();
    values.filter(|values| !values.is_empty())
}

/// What may lie behind a difference between arms besides what is compared: parts of the system and
/// settings in which any two of their runs differ.
pub(crate) fn warnings(arms: &[&[&Run]], names: &[&str]) -> Vec<String> {
    let mut warnings = Vec::new();
    let parts: [fn(&Key) -> &Rc<Fields>; 2] = [|key| &key.system, |key| &key.settings];
    for part in parts {
        let mut fields: Vec<&str> = Vec::new();
        for (field, _) in arms.concat().iter().flat_map(|run| part(&run.key).iter()) {
            if !fields.contains(&field.as_str()) {
                fields.push(field);
            }
        }
        warnings.extend(fields.into_iter().filter_map(|field| {
            let mut held = held(field, arms, names, part);
            if !field.starts_with(VARIABLES) {
                held.iter_mut()
                    .for_each(|it| it.values.retain(Option::is_some));
                held.retain(|it| !it.values.is_empty());
            }
            let first = held.first()?.values.first()?;
            let mut all = held.iter().flat_map(|it| &it.values);
            all.any(|value| value != first)
                .then(|| format!("{} differs: {}", title(field), said(&held)))
        }));
    }
    warnings
}

/// What a reader calls a field.
fn title(field: &str) -> &str {
    match field {
        "os_version" => "the version of the system",
        "kernel" => "the version of its kernel",
        "gpu_driver" => "the driver of the GPU",
        field => field,
    }
}

/// What the runs of an arm have in a field.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Held {
    /// The name of the arm, or of the column.
    pub column: String,
    /// Each once; `None` where there is no such field.
    pub values: Vec<Option<String>>,
}

/// What the runs of each arm have in a field.
pub(crate) fn held(
    field: &str,
    arms: &[&[&Run]],
    names: &[&str],
    part: fn(&Key) -> &Rc<Fields>,
) -> Vec<Held> {
    let of = |(arm, name): (&&[&Run], &&str)| {
        let mut values: Vec<Option<String>> = Vec::new();
        let mut seen: BTreeSet<*const Fields> = BTreeSet::new();
        for fields in arm.iter().map(|run| part(&run.key)) {
            if seen.insert(Rc::as_ptr(fields)) {
                let value = value_of(fields, field).map(str::to_owned);
                if !values.contains(&value) {
                    values.push(value);
                }
            }
        }
        Held {
            column: (*name).to_owned(),
            values,
        }
    };
    arms.iter().zip(names).map(of).collect()
}

/// As in "f32 in a and c, bf16 in b".
pub(crate) fn said(held: &[Held]) -> String {
    let mut groups: Vec<(&[Option<String>], Vec<&str>)> = Vec::new();
    for it in held {
        match groups.iter_mut().find(|group| group.0 == it.values) {
            Some((_, columns)) => columns.push(&it.column),
            None => groups.push((&it.values, vec![&it.column])),
        }
    }
    let texts = groups.iter().map(|(values, columns)| {
        let values = listed(values).join(" and ");
        format!("{values} in {}", columns.join(" and "))
    });
    texts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{self, Runs};
    use crate::comparison::Verdict;
    use crate::gate::{self, Limits};
    use crate::record::MachineState;
    use crate::sets::{self, Process, Set};
    use crate::store::Record;

    /// Eight runs of a set of two equal arms, in the order of time.
    fn records(alter: fn(u32, &mut Record)) -> Vec<Record> {
        (1..=8_u32)
            .map(|number| {
                let arm = ["a", "b", "b", "a"][(number as usize - 1) % 4];
                let step = 1_000_000 + u64::from(1_000 * (number * 7 % 5));
                let mut record = sets::tests::record(arm, number, number.div_ceil(2), step);
                record.start.started_unix_ms += u64::from(number);
                alter(number, &mut record);
                record
            })
            .collect()
    }

    /// What the set's report, the comparison of columns and the gate say of the same records.
    fn answers(records: &[Record]) -> [Verdict; 3] {
        let rules = Rules::default();
        let arm_of = |record: &Record| record.start.member.clone().unwrap().arm;
        let processes = records.iter().map(|record| {
            let member = record.start.member.clone().unwrap();
            Process::of(&format!("{}-{}", member.number, member.arm), record).unwrap()
        });
        let set = Set::new(processes.collect(), Vec::new()).unwrap();
        let of_set = sets::summarize(&set, None).comparisons.remove(0);

        let mut columns = Runs::default();
        let mut arms = [Runs::default(), Runs::default()];
        for record in records {
            let member = record.start.member.clone().unwrap();
            let name = format!("{}-{}", member.number, member.arm);
            columns.add(&member.arm, &name, record);
            arms[usize::from(arm_of(record) == "b")].add(&member.arm, &name, record);
        }
        let compared = match compare::compare(&columns, &[], &rules) {
            Ok(summary) => summary
                .columns
                .into_iter()
                .find_map(|column| column.against_first)
                .map(|against| against.verdict),
            Err(error) => Some(Verdict::NotComparable {
                why: error.to_string(),
            }),
        };
        let [baseline, candidate] = &arms;
        let judged = gate::judge(baseline, candidate, &Limits::default(), None, &rules);
        [of_set.comparison.verdict, compared.unwrap(), judged.verdict]
    }

    fn each_state(record: &mut Record, change: impl Fn(&mut MachineState)) {
        record.states.iter_mut().for_each(change);
    }

    #[test]
    fn a_set_columns_and_the_gate_give_one_answer() {
        type Alter = fn(u32, &mut Record);
        let cases: [(&str, Alter, &str); 14] = [
            ("nothing", |_, _| {}, "equivalent"),
            (
                "arms that work in different ways",
                |_, record| {
                    let b = record.start.member.as_ref().unwrap().arm == "b";
                    record.start.config.compile = !b;
                },
                "equivalent",
            ),
            (
                "another seed in one run of an arm",
                |number, record| record.start.config.seed = u64::from(number == 5),
                "not comparable",
            ),
            (
                "hotter from the second run on",
                |number, record| {
                    let hot = u32::from(number > 1) * 2;
                    each_state(record, |state| state.thermal_state = Some(hot));
                },
                "void",
            ),
            (
                "cooler later",
                |number, record| {
                    each_state(record, |state| {
                        state.thermal_state = Some(u32::from(number == 1))
                    });
                },
                "equivalent",
            ),
            (
                "low power from the fifth run on",
                |number, record| {
                    each_state(record, |state| state.low_power_mode = Some(number > 4));
                },
                "void",
            ),
            (
                "another energy mode in one run",
                |number, record| {
                    each_state(record, |state| {
                        state.power_mode = Some(u32::from(number == 3))
                    });
                },
                "void",
            ),
            (
                "battery in one run",
                |number, record| {
                    let source = if number == 6 { "battery" } else { "ac" };
                    each_state(record, |state| state.power_source = Some(source.to_owned()));
                },
                "void",
            ),
            (
                "all in a virtual machine",
                |_, record| record.start.machine.virtual_machine = Some(true),
                "equivalent",
            ),
            (
                "swap grew in one run",
                |number, record| {
                    if number == 5 {
                        record.iterations[7].swap_bytes = Some(500_000_000);
                    }
                },
                "void",
            ),
            (
                "another macOS in the later half",
                |number, record| {
                    let version = if number > 4 { "26.1" } else { "15.3" };
                    record.start.machine.os_version = Some(version.to_owned());
                },
                "equivalent",
            ),
            (
                "another MLX in one run of an arm",
                |number, record| {
                    if number == 4 {
                        record.start.mlx.version = "0.1".to_owned();
                    }
                },
                "not comparable",
            ),
            (
                // Columns may be of several machines: there the work tells them apart.
                "another chip and batch in one arm",
                |number, record| {
                    let arm_b = [2, 3, 6, 7].contains(&number);
                    record.start.machine.chip = Some(if arm_b { "M2" } else { "M1" }.to_owned());
                    if arm_b {
                        record.start.config.batch_size = 2;
                    }
                },
                "not comparable",
            ),
            (
                "one run was cut off",
                |number, record| {
                    if number == 2 {
                        record.end = None;
                    }
                },
                "equivalent",
            ),
        ];
        for (name, alter, expected) in cases {
            let answers = answers(&records(alter));
            for (verdict, asked) in answers.iter().zip(["set", "compare", "gate"]) {
                assert_eq!(verdict.word(), expected, "{name}, {asked}: {verdict:?}");
            }
        }
    }
}
