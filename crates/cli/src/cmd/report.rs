//! `lfmark report`: a report anew from its record.

use metrics::store;

use crate::{
    args::{Output, ReportArgs},
    exit::Failure,
    output,
};

pub(crate) fn run(args: &ReportArgs, output: Output) -> Result<(), Failure> {
    let record = store::read(&args.run)?;
    let folder = match args.run.is_dir() {
        true => args.run.as_path(),
        false => args.run.parent().unwrap_or(&args.run),
    };
    let folder = args.output.as_deref().unwrap_or(folder);
    output::write_report(&record, folder)?;
    for notice in &record.notices {
        output::message(output.quiet, &format!("note: {notice}"));
    }
    output::print(&match output.json {
        true => output::run_json(&record, folder).to_string(),
        false => output::run_text(&record, folder),
    })
}
