//! What `mlx_lm.benchmark` and `mlx_lm.generate` print.

use metrics::claims::{Quantity as Q, Scope, Unit};

use super::{Cell, ImportError, Page, bounded, lines, other};

/// The output of `mlx_lm.benchmark`; `None` for a text without a line of it.
pub(super) fn of_benchmark(text: &str) -> Result<Option<Page>, ImportError> {
    let mut settings = Vec::new();
    let mut rows = Vec::new();
    let mut known = false;
    for line in lines(text) {
        if let Some(rest) = line.strip_prefix("Timing with ") {
            known = true;
            let rest = rest.trim_end_matches('.').replace(" and ", ", ");
            for (key, value) in pairs(&rest) {
                let (name, quantity) = match key {
                    "prompt_tokens" => ("prompt tokens", Q::PromptTokens),
                    "generation_tokens" => ("generated tokens", Q::GeneratedTokens),
                    "batch_size" => ("batch size", Q::BatchSize),
                    _ => continue,
                };
                let value = Cell::figure(quantity, Unit::None, value, None);
                settings.push(vec![Cell::name(name), value]);
            }
        } else if let Some((number, rest)) = line
            .strip_prefix("Trial ")
            .and_then(|rest| rest.split_once(':'))
        {
            known = true;
            rows.push(trial(format!("trial {}", number.trim()), rest));
        } else if let Some(rest) = line.strip_prefix("Averages:") {
            known = true;
            rows.push(trial("average".to_owned(), rest));
        }
    }
    if !known {
        return Ok(None);
    }
    if rows.is_empty() {
        return Err(ImportError::Empty {
            program: "mlx_lm.benchmark",
            why: "no trial ended",
        });
    }
    bounded(&rows)?;
    bounded(&settings)?;
    let mut page = Page::default();
    page.table("Settings", &["Setting", "Value"], settings);
    let columns = [
        "Trial",
        "Prompt, tokens/s",
        "Generation, tokens/s",
        "Peak, GB",
        "Time, s",
    ];
    page.table("Trials", &columns, rows);
    page.note("All trials ran in one process: how far processes lie apart is not in the source.");
    page.note(FIRST_TOKEN);
    page.note("The peak is the highest since the process was started, the warm-up included.");
    page.note("Model, machine and the programs' versions are not in the source.");
    Ok(Some(page))
}

const FIRST_TOKEN: &str = "The generation rate counts the first token without its time, which \
                           makes it larger by one part in the number of tokens.";

fn trial(name: String, rest: &str) -> Vec<Cell> {
    let value = |key: &str| pairs(rest).find(|(k, _)| *k == key).map(|(_, value)| value);
    let of = other(&name);
    let figure = |quantity, unit, key| Cell::maybe(quantity, unit, value(key), of.clone());
    let rate = Unit::TokensPerSecond;
    vec![
        Cell::name(name.clone()),
        figure(Q::PromptRate, rate, "prompt_tps"),
        figure(Q::GenerationRate, rate, "generation_tps"),
        figure(Q::PeakMemory, Unit::Gigabytes, "peak_memory"),
        figure(Q::WallTime, Unit::Seconds, "total_time"),
    ]
}

/// `key=value` between commas.
fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(',')
        .filter_map(|pair| pair.trim().split_once('='))
}

/// One generation.
struct Generation<'a> {
    prompt_tokens: Option<&'a str>,
    prompt_rate: &'a str,
    tokens: &'a str,
    rate: &'a str,
    peak: &'a str,
}

/// What `mlx_lm.generate` or `mlx_lm.chat` print after a text; `None` where that is not in the
/// source.
pub(super) fn of_generate(text: &str) -> Result<Option<Page>, ImportError> {
    let lines: Vec<&str> = lines(text)
        .map(|line| line.strip_prefix("[batch_generate] ").unwrap_or(line))
        .filter(|line| !line.is_empty())
        .collect();
    // The three lines stand together; a text may hold one like them.
    let after_text = lines.windows(3).filter_map(|lines| {
        let (prompt_tokens, prompt_rate) = counted(lines[0].strip_prefix("Prompt: ")?)?;
        let (tokens, rate) = counted(lines[1].strip_prefix("Generation: ")?)?;
        let peak = lines[2]
            .strip_prefix("Peak memory: ")?
            .strip_suffix(" GB")?;
        Some(Generation {
            prompt_tokens: Some(prompt_tokens),
            prompt_rate,
            tokens,
            rate,
            peak,
        })
    });
    let after_turn = lines.iter().filter_map(|line| {
        let [tokens, rate, prompt_rate, peak] =
            <[&str; 4]>::try_from(line.split(" · ").collect::<Vec<_>>()).ok()?;
        Some(Generation {
            prompt_tokens: None,
            prompt_rate: prompt_rate
                .strip_prefix("prompt ")?
                .strip_suffix(" tok/s")?,
            tokens: tokens.strip_suffix(" tokens")?,
            rate: rate.strip_suffix(" tok/s")?,
            peak: peak.strip_prefix("peak ")?.strip_suffix(" GB")?,
        })
    });
    let generations: Vec<Generation> = after_text.chain(after_turn).collect();
    if generations.is_empty() {
        return Ok(None);
    }
    bounded(&generations)?;
    let lengths = generations.iter().all(|it| it.prompt_tokens.is_some());
    let rows = (1..).zip(generations).map(|(number, it)| {
        let of = Some(Scope::Prompt(number));
        let rate = Unit::TokensPerSecond;
        vec![
            Cell::name(format!("prompt {number}")),
            Cell::maybe(Q::PromptTokens, Unit::None, it.prompt_tokens, of.clone()),
            Cell::figure(Q::PromptRate, rate, it.prompt_rate, of.clone()),
            Cell::figure(Q::GeneratedTokens, Unit::None, it.tokens, of.clone()),
            Cell::figure(Q::GenerationRate, rate, it.rate, of.clone()),
            Cell::figure(Q::PeakMemory, Unit::Gigabytes, it.peak, of),
        ]
    });
    let columns = [
        "Prompt",
        "Prompt tokens",
        "Prompt, tokens/s",
        "Generated tokens",
        "Generation, tokens/s",
        "Peak, GB",
    ];
    let mut page = Page::default();
    page.table("Generation", &columns, rows.collect());
    if !lengths {
        page.note("The lengths of the prompts are not in the source.");
    }
    page.note(FIRST_TOKEN);
    page.note("The peak is the highest since the process was started.");
    page.note("A text was generated once: how far repeats lie apart is not in the source.");
    page.note("Prompts and generated texts were left out.");
    page.note("Model, machine and the programs' versions are not in the source.");
    Ok(Some(page))
}

/// `14 tokens, 563.075 tokens-per-sec`.
fn counted(text: &str) -> Option<(&str, &str)> {
    let (tokens, rate) = text.split_once(" tokens, ")?;
    Some((tokens, rate.strip_suffix(" tokens-per-sec")?))
}
