//! Every link of a committed document leads somewhere.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, str};

use liblzma::read::XzDecoder;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

#[test]
fn no_link_of_a_document_is_dead() {
    let repository = Repository::new();
    let documents = repository.files.iter().filter(|path| {
        // What tests compare with is no document.
        path.ends_with(".md") && !path.contains("/tests/snapshots/")
    });
    let mut checked = 0;
    let mut dead = Vec::new();
    for document in documents {
        for link in links(&read(document)) {
            checked += 1;
            if !repository.has(document, &link) {
                dead.push(format!("{document}: {link}"));
            }
        }
    }
    assert!(checked > 100, "only {checked} links were found");
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

#[test]
fn a_dead_link_is_found() {
    let repository = Repository::new();
    let found = |document: &str, link: &str| repository.has(document, link);
    assert!(found("README.md", "fixtures"));
    assert!(found("docs/ci.md", "../README.md#lfmark"));
    assert!(!found("docs/ci.md", "README.md"));
    assert!(!found("README.md", "#no-such-section"));
    assert!(!found("README.md", "reports/README.md#no-such-section"));
    assert!(!found("README.md", "../README.md"));
    assert!(!found("README.md", "target"));
    let set = "reports/cpu-vs-mlx-lm/report.md";
    assert!(found(set, "01-lfmark/report.md"));
    assert!(!found(set, "99-lfmark/report.md"));
}

#[test]
fn anchors_are_those_that_github_makes() {
    let text = "# A `b_c`: d, [e](f) - g!\n\n## Twice\n\n## Twice\n";
    let expected = ["a-b_c-d-e---g", "twice", "twice-1"];
    assert_eq!(anchors(text), expected.map(str::to_owned).into());
}

#[test]
fn links_outside_are_left_alone() {
    let text = "[a](https://b) <https://c> [d](e.md) ![f](g.svg)\n\n```sh\n[h](i)\n```\n";
    assert_eq!(links(text), ["e.md", "g.svg"]);
}

/// The files that are committed, or will be.
struct Repository {
    files: BTreeSet<String>,
    /// What can be made of the committed records.
    made: BTreeSet<String>,
}

impl Repository {
    fn new() -> Self {
        let output = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(repository())
            .output()
            .unwrap();
        let files = str::from_utf8(&output.stdout).unwrap().lines();
        let there = files.filter(|file| repository().join(file).is_file());
        let files: BTreeSet<_> = there.map(str::to_owned).collect();
        assert!(files.contains("README.md"), "git lists no files");
        let made = files
            .iter()
            .flat_map(|file| reports_of_runs(file))
            .collect();
        Self { files, made }
    }

    /// Whether a link of a document leads to a file, a folder or a heading.
    fn has(&self, document: &str, link: &str) -> bool {
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        let target = match path {
            "" => Some(document.to_owned()),
            path => resolve(document, path),
        };
        let Some(target) = target else { return false };
        let folder = format!("{target}/");
        match self.files.contains(&target) {
            true if anchor.is_empty() => true,
            true => anchors(&read(&target)).contains(anchor),
            false if self.files.iter().any(|file| file.starts_with(&folder)) => anchor.is_empty(),
            false => self.made.contains(&target),
        }
    }
}

/// A path from the repository's root; `None` where it leaves the repository.
fn resolve(document: &str, path: &str) -> Option<String> {
    let (folder, _) = document.rsplit_once('/').unwrap_or_default();
    let mut parts: Vec<&str> = folder.split('/').filter(|it| !it.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The reports that can be made of the runs of a set: its own report links to them.
fn reports_of_runs(file: &str) -> Vec<String> {
    if let Some(record) = file.strip_prefix("fixtures/records/") {
        let run = record.strip_suffix("/record.jsonl");
        return run
            .map(|run| format!("reports/{run}/report.md"))
            .into_iter()
            .collect();
    }
    let Some(set) = file.strip_suffix("/records.tar.xz") else {
        return Vec::new();
    };
    let archive = fs::File::open(repository().join(file)).unwrap();
    let mut records = tar::Archive::new(XzDecoder::new(archive));
    let entries = records.entries().unwrap();
    let paths = entries.map(|entry| entry.unwrap().path().unwrap().into_owned());
    let runs = paths.filter(|path| path.ends_with("record.jsonl"));
    runs.map(|record| format!("{set}/{}/report.md", record.parent().unwrap().display()))
        .collect()
}

/// Where the links and images of a document lead, but for those to other sites.
fn links(text: &str) -> Vec<String> {
    let found = Parser::new_ext(text, Options::ENABLE_TABLES).filter_map(|event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
            Some(dest_url.into_string())
        }
        _ => None,
    });
    found.filter(|link| !link.contains(':')).collect()
}

/// What the headings of a document can be linked by.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut times: HashMap<String, usize> = HashMap::new();
    let mut heading = None;
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(words) | Event::Code(words) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&words);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let words = heading.take().unwrap_or_default().to_lowercase();
                let kept = words
                    .chars()
                    .filter(|it| it.is_alphanumeric() || " -_".contains(*it));
                let anchor = kept.collect::<String>().replace(' ', "-");
                let seen = times.entry(anchor.clone()).or_default();
                found.insert(match *seen {
                    0 => anchor,
                    again => format!("{anchor}-{again}"),
                });
                *seen += 1;
            }
            _ => {}
        }
    }
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
