//! `lfmark report`: a report anew from its record.

use metrics::{
    sets, store,
    summary::{summarize, summarize_with},
    sweep,
};

use crate::{
    args::{Output, ReportArgs},
    cmd::{self, repeats},
    exit::Failure,
    output,
};

pub(crate) fn run(args: &ReportArgs, output: Output) -> Result<(), Failure> {
    let to = args.output.as_deref().unwrap_or(&args.run);
    if sweep::is_sweep(&args.run) {
        if args.rules.is_some() {
            return Err(Failure::Usage(
                "--rules is for the report of a run or a set; a sweep is judged by the thresholds \
                 its runs were recorded with"
                    .to_owned(),
            ));
        }
        return cmd::sweep::report(&args.run, to, &args.presentation, output);
    }
    if sets::is_set(&args.run) {
        let rules = args.rules.as_ref();
        return repeats::report(&args.run, to, rules, &args.presentation, output);
    }
    let record = store::read(&args.run)?;
    let folder = match args.run.is_dir() {
        true => args.run.as_path(),
        false => args.run.parent().unwrap_or(&args.run),
    };
    let folder = args.output.as_deref().unwrap_or(folder);
    let summary = match &args.rules {
        Some(thresholds) => {
            let recorded = record.start.rules.unwrap_or_default();
            let rules = thresholds.over(recorded).map_err(Failure::Usage)?;
            summarize_with(&record, &rules)
        }
        None => summarize(&record),
    };
    output::write_report(&record, &summary, &args.presentation, folder)?;
    for notice in &record.notices {
        output::message(output.quiet, &format!("note: {notice}"));
    }
    output::print(&match output.json {
        true => output::run_json(&summary, folder).to_string(),
        false => output::run_text(&summary, &args.presentation, folder),
    })
}
