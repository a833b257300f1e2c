//! `lfmark audit`: whether figures can be true together.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use metrics::{
    audit::{self, Audit, Outcome},
    claims, roofline, store,
    summary::summarize,
};
use serde_json::{Value, json};

use crate::{
    args::{AuditArgs, Output},
    exit::Failure,
    output,
};

pub(crate) fn run(args: &AuditArgs, output: Output) -> Result<(), Failure> {
    let (audit, text, json) = match is_record(&args.path) {
        true => of_record(&args.path, output)?,
        false => of_claims(&args.path)?,
    };
    output::print(&match output.json {
        true => json.to_string(),
        false => text.trim_end().to_owned(),
    })?;
    let failed = audit
        .outcomes()
        .filter(|(_, outcome)| *outcome == Outcome::Fail);
    let failed: Vec<&str> = failed.map(|(id, _)| id).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let (count, total) = (failed.len(), audit.outcomes().count());
    let names = failed.join(", ");
    Err(anyhow::anyhow!("{count} of {total} checks and claims fail: {names}").into())
}

fn of_record(path: &Path, output: Output) -> Result<(Audit, String, Value), Failure> {
    let record = store::read(path)?;
    for notice in &record.notices {
        output::message(output.quiet, &format!("note: {notice}"));
    }
    let summary = summarize(&record);
    let audit = audit::record(&record, &summary);
    let roofline = roofline::roofline(&record, &summary);
    let text = report::render_audit(&record, &roofline, &audit);
    let json = json!({ "audit": audit, "roofline": roofline });
    Ok((audit, text, json))
}

fn of_claims(path: &Path) -> Result<(Audit, String, Value), Failure> {
    let claims = claims::read(path)?;
    let audit = audit::claims(&claims);
    let text = report::render_claims(&claims, &audit);
    let json = json!({ "audit": audit });
    Ok((audit, text, json))
}

/// Whether the path is a run folder or a record, as opposed to a document of claims: a record is
/// named so, or begins with an event.
fn is_record(path: &Path) -> bool {
    /// More than any field that comes before the first event.
    const BEGINNING: u64 = 4096;
    if path.is_dir()
        || path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
    {
        return true;
    }
    // A device or pipe could keep the program waiting, and is refused later.
    let mut line = Vec::new();
    let file = File::open(path).ok().filter(|_| path.is_file());
    let read = file.and_then(|file| {
        let mut beginning = BufReader::new(file.take(BEGINNING));
        beginning.read_until(b'\n', &mut line).ok()
    });
    read.is_some() && line.trim_ascii_start().starts_with(b"{\"event\"")
}
