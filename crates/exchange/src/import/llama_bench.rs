//! What `llama-bench` prints: JSON and JSON lines with every repetition's time, CSV, SQL and
//! Markdown without them.
//!
//! Its own standard deviations are not taken from JSON, CSV and SQL: that of times is computed in whole
//! numbers, and that of rates from a difference of squares, which loses small ones to rounding.

use metrics::claims::{Quantity as Q, Unit};
use metrics::stats;
use serde_json::Value;

use super::{Cell, ImportError, Page, bounded, lines, other};

const PROGRAM: &str = "llama-bench";

/// Most repetitions of a test that are read.
const MOST_SAMPLES: usize = 100_000;

const COLUMNS: [&str; 8] = [
    "Test",
    "Model",
    "Size",
    "Parameters",
    "Back end",
    "Rate, tokens/s",
    "Repetitions",
    "Build",
];

/// Whether a JSON object is the result of a test.
pub(super) fn is_row(value: &Value) -> bool {
    value.get("n_prompt").is_some() && value.get("n_gen").is_some()
}

/// The results of tests as JSON objects.
pub(super) fn of_json(values: &[Value]) -> Result<Page, ImportError> {
    bounded(values)?;
    let mut page = Page::default();
    let tests = values.iter().filter(|value| is_row(value));
    let rows = (1..).zip(tests).map(|(number, value)| {
        let field = |name: &str| match value.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let samples = value.get("samples_ns").and_then(Value::as_array);
        let samples = samples.map(|list| list.iter().take(MOST_SAMPLES).map(Value::as_f64));
        let samples: Option<Vec<f64>> = samples.and_then(Iterator::collect);
        row(&mut page, number, &field, samples.as_deref())
    });
    let rows: Vec<_> = rows.collect();
    finish(page, rows)
}

/// The results as SQL; `None` for a text without an insertion into `llama_bench`.
pub(super) fn of_sql(text: &str) -> Result<Option<Page>, ImportError> {
    let mut page = Page::default();
    let mut rows = Vec::new();
    for line in lines(text) {
        let inserted = line
            .strip_prefix("INSERT INTO llama_bench (")
            .or_else(|| line.strip_prefix("INSERT INTO test ("))
            .and_then(|rest| rest.split_once(") VALUES ("));
        let Some((names, values)) = inserted else {
            continue;
        };
        let names: Vec<&str> = names.split(',').map(str::trim).collect();
        let values = quoted(values);
        // A row that was cut off has other fields than its names say.
        if names.len() != values.len() {
            continue;
        }
        let field = |name: &str| {
            let at = names.iter().position(|known| *known == name)?;
            Some(values[at].clone())
        };
        rows.push(row(&mut page, rows.len() + 1, &field, None));
        bounded(&rows)?;
    }
    match rows.is_empty() {
        true => Ok(None),
        false => finish(page, rows).map(Some),
    }
}

/// The results as CSV; `None` for a text without its header. What stands before the header is not
/// part of it, and of a row that was cut off nothing is read.
pub(super) fn of_csv(text: &str) -> Result<Option<Page>, ImportError> {
    let names = |line: &str| -> Vec<String> {
        let names = line.trim().split(',');
        names
            .map(|name| name.trim_matches('"').to_owned())
            .collect()
    };
    let is_header = |line: &str| {
        let names = names(line);
        ["n_prompt", "n_gen", "avg_ts"]
            .iter()
            .all(|wanted| names.iter().any(|name| name == wanted))
    };
    let mut at = 0;
    let header = text.split_inclusive('\n').find_map(|line| {
        at += line.len();
        is_header(line).then(|| names(line))
    });
    let Some(header) = header else {
        return Ok(None);
    };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(&text.as_bytes()[at..]);
    let mut page = Page::default();
    let mut rows = Vec::new();
    for values in reader.records().map_while(Result::ok) {
        // Also the header of a second output behind the first.
        if values.len() != header.len() || values.iter().eq(&header) {
            continue;
        }
        let field = |name: &str| {
            let at = header.iter().position(|known| known == name)?;
            Some(values[at].to_owned())
        };
        rows.push(row(&mut page, rows.len() + 1, &field, None));
        bounded(&rows)?;
    }
    finish(page, rows).map(Some)
}

/// `'a', 'it''s', 3);` as its values.
fn quoted(text: &str) -> Vec<String> {
    let mut values = vec![String::new()];
    let mut inside = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, inside) {
            ('\'', true) if characters.peek() == Some(&'\'') => {
                characters.next();
                push(&mut values, '\'');
            }
            ('\'', _) => inside = !inside,
            (',', false) => values.push(String::new()),
            (')', false) => break,
            (' ', false) => {}
            (character, _) => push(&mut values, character),
        }
    }
    values
}

fn push(values: &mut [String], character: char) {
    if let Some(last) = values.last_mut() {
        last.push(character);
    }
}

/// One test, from its fields by name. Tests of one name differ in settings that are not read, so
/// that only their number tells them apart.
fn row(
    page: &mut Page,
    number: usize,
    field: &dyn Fn(&str) -> Option<String>,
    samples: Option<&[f64]>,
) -> Vec<Cell> {
    let count = |name: &str| field(name).and_then(|it| it.parse::<u64>().ok());
    let (prompt, generated) = (count("n_prompt").unwrap_or(0), count("n_gen").unwrap_or(0));
    let mut test = match (prompt, generated) {
        (_, 0) => format!("pp{prompt}"),
        (0, _) => format!("tg{generated}"),
        _ => format!("pp{prompt}+tg{generated}"),
    };
    if let Some(depth) = count("n_depth").filter(|&depth| depth > 0) {
        test = format!("{test} @ d{depth}");
    }
    let name = |name: &str| field(name).map_or_else(Cell::absent, Cell::Name);
    let model = field("model_type").unwrap_or_default();
    let of = other(format!("row {number}, {test} of {model}"));
    let tokens = prompt.saturating_add(generated) as f64;
    let rates = samples.map(|ns| ns.iter().map(|ns| tokens * 1e9 / ns).collect::<Vec<f64>>());
    let mean = rates.as_deref().and_then(stats::mean);
    let rate = match (mean.filter(|mean| mean.is_finite()), field("avg_ts")) {
        (Some(mean), _) => {
            let spread = rates.as_deref().and_then(stats::standard_deviation);
            let spread = spread.map(|sd| format!("{sd:.3}"));
            Cell::figure(
                quantity(prompt, generated),
                Unit::TokensPerSecond,
                format!("{mean:.3}"),
                of,
            )
            .with_spread(spread)
            .derived()
        }
        (None, Some(printed)) => {
            page.note(
                "The times of the repetitions are not in the source, and the standard deviation \
                 that llama-bench computed is left out, since its formula can be far off.",
            );
            Cell::figure(
                quantity(prompt, generated),
                Unit::TokensPerSecond,
                printed,
                of,
            )
        }
        (None, None) => Cell::absent(),
    };
    combined(page, prompt, generated);
    let build = match (field("build_commit"), field("build_number")) {
        (Some(commit), Some(number)) => Cell::name(format!("{commit} ({number})")),
        _ => Cell::absent(),
    };
    let repetitions = samples.map_or_else(Cell::absent, |it| Cell::name(it.len().to_string()));
    vec![
        Cell::name(test),
        Cell::name(model),
        name("model_size"),
        name("model_n_params"),
        name("backends"),
        rate,
        repetitions,
        build,
    ]
}

/// Of a test that does both, the rate is of neither.
fn quantity(prompt: u64, generated: u64) -> Q {
    match (prompt, generated) {
        (_, 0) => Q::PromptRate,
        (0, _) => Q::GenerationRate,
        _ => Q::TokenRate,
    }
}

fn combined(page: &mut Page, prompt: u64, generated: u64) {
    if prompt > 0 && generated > 0 {
        page.note("A test of prompt and generation has one rate for both together.");
    }
}

/// The results as a table of Markdown; `None` for a text without one.
pub(super) fn of_markdown(text: &str) -> Result<Option<Page>, ImportError> {
    let cells = |line: &str| -> Option<Vec<String>> {
        let inner = line.strip_prefix('|')?.strip_suffix('|')?;
        Some(
            inner
                .split('|')
                .map(|cell| cell.trim().to_owned())
                .collect(),
        )
    };
    let build = lines(text).find_map(|line| line.strip_prefix("build: ").map(str::to_owned));
    let mut columns: Option<Vec<String>> = None;
    let mut page = Page::default();
    let mut rows = Vec::new();
    for line in lines(text) {
        let Some(values) = cells(line) else { continue };
        if values.iter().any(|name| name == "test") && values.iter().any(|name| name == "t/s") {
            columns = Some(values);
            continue;
        }
        let Some(columns) = columns.as_ref().filter(|names| names.len() == values.len()) else {
            continue;
        };
        let field = |name: &str| {
            let at = columns.iter().position(|known| known == name)?;
            Some(values[at].clone())
        };
        let (Some(test), Some(rate)) = (field("test"), field("t/s")) else {
            continue;
        };
        if !rate.contains(|c: char| c.is_ascii_digit()) {
            continue;
        }
        let (prompt, generated) = (test.contains("pp").into(), test.contains("tg").into());
        let (printed, spread) = match rate.split_once('±') {
            Some((rate, spread)) => (rate.trim().to_owned(), Some(spread.trim().to_owned())),
            None => (rate.clone(), None),
        };
        let model = field("model").unwrap_or_default();
        let of = other(format!("row {}, {test} of {model}", rows.len() + 1));
        let name = |name: &str| field(name).map_or_else(Cell::absent, Cell::Name);
        combined(&mut page, prompt, generated);
        rows.push(vec![
            Cell::name(test.clone()),
            Cell::name(model),
            name("size"),
            name("params"),
            name("backend"),
            Cell::figure(
                quantity(prompt, generated),
                Unit::TokensPerSecond,
                printed,
                of,
            )
            .with_spread(spread),
            Cell::absent(),
            build.clone().map_or_else(Cell::absent, Cell::Name),
        ]);
        bounded(&rows)?;
    }
    if rows.is_empty() {
        return Ok(None);
    }
    page.note(
        "The number and the times of the repetitions are not in the source; what follows ± is the \
         standard deviation that llama-bench computed by a formula that loses small ones to \
         rounding.",
    );
    finish(page, rows).map(Some)
}

fn finish(mut page: Page, rows: Vec<Vec<Cell>>) -> Result<Page, ImportError> {
    if rows.is_empty() {
        return Err(ImportError::Empty {
            program: PROGRAM,
            why: "no test has a result",
        });
    }
    page.table("Tests", &COLUMNS, rows);
    page.note(
        "All repetitions ran in one process: how far processes lie apart is not in the source.",
    );
    page.note("Memory in use, power and the state of the machine are not in the source.");
    Ok(page)
}
