//! Killed at any moment, a command leaves every earlier result whole, and the next one works: 100
//! random moments in all.

use std::{collections::BTreeMap, fs, path::Path, thread, time::Duration};

use metrics::{
    engine::{self, Truth},
    random::Generator,
    store::{self, ParseError, ReadError},
};

use crate::support::Folder;

/// Every file below a folder but hidden ones, which commands leave when they are killed.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        match path.is_dir() {
            true => found.extend(
                files(&path)
                    .into_iter()
                    .map(|(below, bytes)| (format!("{name}/{below}"), bytes)),
            ),
            false => drop(found.insert(name, fs::read(&path).unwrap())),
        }
    }
    found
}

/// Starts the program, and kills it after a random time up to `most`; gives whether it was too late.
fn kill(folder: &Folder, arguments: &str, most: Duration, random: &mut Generator) -> bool {
    let mut child = folder.command(arguments).spawn().unwrap();
    thread::sleep(most.mul_f64(random.uniform()));
    // On Unix this is SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap().success()
}

/// How long the command takes here, without a claim about it: moments are drawn from a little more.
fn duration(folder: &Folder, arguments: &str) -> Duration {
    let begun = std::time::Instant::now();
    folder.ok(arguments);
    begun.elapsed().mul_f64(1.2)
}

#[test]
fn a_run_that_is_killed_leaves_earlier_runs_and_a_record_that_can_be_read() {
    let folder = Folder::new();
    let most = duration(&folder, &format!("{RUN} -o results/first --iterations 3"));
    let earlier = files(&folder.path("results/first"));
    let mut random = Generator::new(1);
    for number in 0..14 {
        let record = format!("results/{number}/record.jsonl");
        let endless = format!("{RUN} -o results/{number} --iterations 1000000");
        // One half before it measures or just then, the other while it does.
        match number % 2 {
            0 => drop(kill(&folder, &endless, most, &mut random)),
            _ => drop(
                folder.end_when(&record, &endless, "\"iteration\":1,", |child| {
                    thread::sleep(Duration::from_millis(30).mul_f64(random.uniform()));
                    child.kill().unwrap();
                }),
            ),
        }
        let path = folder.path(&record);
        match store::read(&path) {
            Ok(read) => {
                assert_eq!(read.end, None, "{number} ended by itself");
                assert!(number % 2 == 0 || !read.iterations.is_empty(), "{number}");
            }
            Err(ReadError::File { .. }) => assert!(!path.exists(), "{number}"),
            // Killed before the first line was there.
            Err(ReadError::Record {
                error: ParseError::Empty | ParseError::NoCompleteLine,
                ..
            }) => {}
            Err(error) => panic!("{number}: {error}"),
        }
    }
    assert_eq!(files(&folder.path("results/first")), earlier);
    folder.ok("report results/1");
    let page = folder.ok("history results -o page");
    assert!(page.stdout.contains("it did not complete"), "{page:?}");
    folder.ok(&format!("{RUN} -o results/next --iterations 3"));
}

/// Quick steps, and nothing behind them.
const RUN: &str = "run --max-seq-length 8 --truncate --no-generation";

#[test]
fn an_import_that_is_killed_leaves_whole_documents_or_none() {
    let log = include_str!("../../../../fixtures/exchange/mlx-lm-0.26-lora-a100.txt");
    let folder = Folder::with("first.log", log);
    let most = duration(&folder, "import first.log -o imported");
    let whole = folder.read("imported/first.log.claims.json");
    let mut random = Generator::new(2);
    for number in 0..43 {
        let name = format!("{number}.log");
        folder.write(&name, log);
        kill(
            &folder,
            &format!("import {name} -o imported"),
            most,
            &mut random,
        );
    }
    for (name, bytes) in files(&folder.path("imported")) {
        let text = String::from_utf8(bytes).unwrap();
        let own = text.replace(name.trim_end_matches(".claims.json"), "first.log");
        assert_eq!(own, whole, "{name}");
    }
    folder.ok("import first.log -o again");
    let next = folder.path("imported/0.log.claims.json");
    if !next.exists() {
        folder.ok("import 0.log -o imported");
    }
    assert_eq!(folder.read("again/first.log.claims.json"), whole);
}

#[test]
fn an_update_of_a_history_that_is_killed_leaves_the_former_page_whole() {
    let folder = Folder::new();
    let record = |number: u64| {
        let mut start = engine::start(&number.to_string(), 8);
        start.started_unix_ms = number;
        start.lfmark.commit = Some(format!("{number:040x}"));
        let dir = folder.path(&format!("runs/{number}"));
        engine::record(&Truth::steady(8), &start, number, &dir).unwrap();
    };
    (0..6).for_each(record);
    let most = duration(&folder, "history runs -o page");
    let former = files(&folder.path("page"));
    (6..8).for_each(record);
    folder.ok("history runs -o expected");
    let next = files(&folder.path("expected"));
    assert_ne!(former["index.html"], next["index.html"]);
    let mut random = Generator::new(3);
    let restore = || {
        for (name, bytes) in &former {
            fs::write(folder.path("page").join(name), bytes).unwrap();
        }
    };
    for number in 0..43 {
        restore();
        let ended = kill(&folder, "history runs -o page", most, &mut random);
        for (name, bytes) in files(&folder.path("page")) {
            let known = [former.get(&name), next.get(&name)];
            assert!(known.contains(&Some(&bytes)), "{number}: {name} is neither");
        }
        assert!(!ended || files(&folder.path("page")) == next);
    }
    // What killed ones left is cleared away too.
    folder.ok("history runs -o page");
    assert_eq!(files(&folder.path("page")), next);
    let hidden = fs::read_dir(folder.path("page")).unwrap().flatten();
    let hidden = hidden.filter(|it| it.file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0);
}
