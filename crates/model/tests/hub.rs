//! The hub, played by a server on this machine that fails in every way that a network does.

#[path = "common/hub.rs"]
mod stand_in;

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Duration,
};

use model::hub::{self, Progress, Settings, Snapshot};
use stand_in::{COMMIT, Fault, ID, StandIn, nobody};

/// The first shard, of which most tests break something.
const SHARD: &str = "model-00001-of-00003.safetensors";

fn checkpoint() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints/transformers")
}

fn settings(endpoint: &str, cache: &Path) -> Settings {
    Settings {
        endpoint: endpoint.to_owned(),
        cache: cache.to_owned(),
        token: None,
        offline: false,
        patience: Duration::from_millis(300),
    }
}

fn get(settings: &Settings) -> model::Result<Snapshot> {
    hub::snapshot(settings, ID, None, &mut |_| ControlFlow::Continue(()))
}

/// The model's folder in the cache.
fn folder(cache: &Path) -> PathBuf {
    cache.join("models--owner--model")
}

fn names(dir: &Path) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let entries = fs::read_dir(dir).map(|it| it.map(|entry| name(entry.unwrap())).collect());
    let mut names: Vec<_> = entries.unwrap_or_default();
    names.sort();
    names
}

fn incomplete(cache: &Path) -> Vec<(PathBuf, u64)> {
    let blobs = folder(cache).join("blobs");
    let names = names(&blobs)
        .into_iter()
        .filter(|it| it.ends_with(".incomplete"));
    names
        .map(|it| (blobs.join(&it), fs::metadata(blobs.join(it)).unwrap().len()))
        .collect()
}

/// Every file of the snapshot is whole.
fn check_whole(hub: &StandIn, snapshot: &Snapshot) {
    assert_eq!(snapshot.commit, COMMIT);
    let names = names(&snapshot.folder);
    assert_eq!(
        names,
        [
            "chat_template.jinja",
            "config.json",
            "generation_config.json",
            SHARD,
            "model-00002-of-00003.safetensors",
            "model-00003-of-00003.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
    );
    for name in names {
        let found = fs::read(snapshot.folder.join(&name)).unwrap();
        assert!(found == hub.file(&name), "{name}");
    }
}

#[test]
fn a_model_is_fetched_into_the_standard_cache_and_then_needs_no_network() {
    let hub = StandIn::of(&checkpoint());
    let cache = tempfile::tempdir().unwrap();
    let online = settings(&hub.endpoint, cache.path());
    let mut seen = Vec::new();
    let snapshot = hub::snapshot(&online, ID, None, &mut |progress| {
        if let Progress::File { name, done, total } = progress
            && done == total
        {
            seen.push(name.to_owned());
        }
        ControlFlow::Continue(())
    });
    let snapshot = snapshot.unwrap();
    check_whole(&hub, &snapshot);
    assert_eq!(
        snapshot.folder,
        folder(cache.path()).join("snapshots").join(COMMIT)
    );
    assert_eq!(
        fs::read_to_string(folder(cache.path()).join("refs/main")).unwrap(),
        COMMIT
    );
    seen.sort();
    assert_eq!(seen, names(&snapshot.folder));
    assert!(incomplete(cache.path()).is_empty());
    let link = fs::read_link(snapshot.folder.join(SHARD)).unwrap();
    assert!(link.starts_with("../../blobs"), "{link:?}");

    // Only the question whether the branch has moved.
    hub.requests();
    assert_eq!(get(&online).unwrap(), snapshot);
    assert_eq!(hub.requests().len(), 1);
    // Not even that for a commit.
    let commit = hub::snapshot(
        &online,
        ID,
        Some(COMMIT),
        &mut |_| ControlFlow::Continue(()),
    );
    assert_eq!(commit.unwrap(), snapshot);
    let offline = Settings {
        offline: true,
        ..online.clone()
    };
    assert_eq!(get(&offline).unwrap(), snapshot);
    assert!(hub.requests().is_empty());
    // And where nobody answers, what is there, which is said.
    let mut reasons = Vec::new();
    let away = settings(&nobody(), cache.path());
    let kept = hub::snapshot(&away, ID, None, &mut |progress| {
        if let Progress::Cached { reason } = progress {
            reasons.push(reason.to_owned());
        }
        ControlFlow::Continue(())
    });
    assert_eq!(kept.unwrap(), snapshot);
    assert!(
        reasons[0].contains("cannot reach http://127.0.0.1"),
        "{reasons:?}"
    );
}

/// Fails once in this way, which has to be said like this; then the hub recovers, and the next
/// attempt gives the whole model.
fn check(path: &'static str, fault: Fault, expected: &[&str]) -> (StandIn, tempfile::TempDir) {
    let hub = StandIn::of(&checkpoint());
    let cache = tempfile::tempdir().unwrap();
    let settings = settings(&hub.endpoint, cache.path());
    hub.fail(path, fault.clone());
    let error = get(&settings).unwrap_err().to_string();
    for part in ["owner/model on the hub: "].iter().chain(expected) {
        assert!(error.contains(part), "{fault:?}: no `{part}` in `{error}`");
    }
    let pointers = folder(cache.path()).join("snapshots").join(COMMIT);
    for name in names(&pointers) {
        let found = fs::read(pointers.join(&name)).unwrap();
        assert!(
            found == hub.file(&name),
            "{fault:?}: half of {name} is taken for whole"
        );
    }
    assert!(
        !folder(cache.path()).join("refs/main").exists(),
        "{fault:?}"
    );
    let offline = Settings {
        offline: true,
        ..settings.clone()
    };
    let error = get(&offline).unwrap_err().to_string();
    assert!(
        error.contains("HF_HUB_OFFLINE is set"),
        "{fault:?}: {error}"
    );

    hub.recover();
    hub.requests();
    check_whole(&hub, &get(&settings).unwrap());
    assert!(incomplete(cache.path()).is_empty(), "{fault:?}");
    (hub, cache)
}

/// From which bytes on the first shard was asked for, at the place that has it.
fn asked(hub: &StandIn) -> Vec<Option<usize>> {
    let requests = hub.requests().into_iter();
    let shard = requests.filter(|it| it.path == format!("/elsewhere/{SHARD}"));
    shard.map(|it| it.from).collect()
}

#[test]
fn refusals_say_what_to_do() {
    check(
        "revision/main?blobs=true",
        Fault::Status(401, ""),
        &[
            "access is refused (401",
            "no token was given",
            "set HF_TOKEN",
        ],
    );
    check(
        SHARD,
        Fault::Status(403, ""),
        &[
            SHARD,
            "access is refused (403",
            "accept the model's conditions",
        ],
    );
    check(
        "revision/main?blobs=true",
        Fault::Status(404, ""),
        &["there is no such model, revision or file (404", "`main`"],
    );
    check(
        "tokenizer.json",
        Fault::Status(404, ""),
        &["tokenizer.json: there is no such model, revision or file"],
    );
    check(
        SHARD,
        Fault::Status(429, "Retry-After: 40\r\n"),
        &["too many requests (429", "run again in 40 s", "HF_TOKEN"],
    );
    check(
        "revision/main?blobs=true",
        Fault::Status(429, ""),
        &["too many requests (429", "run again later"],
    );
    check(
        SHARD,
        Fault::Status(503, ""),
        &["the hub fails (503", "run again later"],
    );
}

#[test]
fn a_hub_that_is_not_there_is_said_to_be_out_of_reach() {
    let cache = tempfile::tempdir().unwrap();
    let check = |endpoint: &str, expected: &str| {
        let error = get(&settings(endpoint, cache.path()))
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "`{expected}` is not in `{error}`");
        assert_eq!(names(cache.path()), Vec::<String>::new());
    };
    check(&nobody(), "check the network, or give a folder");
    check(&nobody(), "cannot reach http://127.0.0.1:");
    check(
        "http://no-such-host.invalid",
        "cannot reach http://no-such-host.invalid",
    );
    check("not a url", "check HF_ENDPOINT");
    let silent = StandIn::of(&checkpoint());
    silent.fail("blobs=true", Fault::Silence(10));
    check(&silent.endpoint, "no answer within 300ms");
    let other = StandIn::of(&checkpoint());
    other.fail("blobs=true", Fault::Garbled);
    check(&other.endpoint, "check HF_ENDPOINT");
}

#[test]
fn a_cut_file_is_gone_on_with() {
    // It is tried again while that brings something, and what came is kept.
    let (hub, _cache) = check(
        SHARD,
        Fault::Cut(20_000),
        &[
            SHARD,
            "the connection was cut",
            "after 120000 of 173128 bytes",
            "run again to go on",
        ],
    );
    assert_eq!(asked(&hub), [Some(120_000)]);
    let (hub, _cache) = check(SHARD, Fault::Cut(0), &[SHARD, "after 0 of 173128 bytes"]);
    assert_eq!(asked(&hub), [None]);
    // A small file without a length ends early: only the announced one shows it.
    check(
        "tokenizer.json",
        Fault::CutUnannounced(0),
        &["tokenizer.json: the connection ended after 0 of 8154 bytes"],
    );
}

#[test]
fn one_cut_among_many_bytes_ends_nothing() {
    let hub = StandIn::of(&checkpoint());
    let cache = tempfile::tempdir().unwrap();
    hub.fail(SHARD, Fault::Cut(100_000));
    check_whole(&hub, &get(&settings(&hub.endpoint, cache.path())).unwrap());
    assert_eq!(asked(&hub), [None, Some(100_000)]);
}

#[test]
fn a_silent_connection_is_given_up_and_gone_on_with() {
    let (hub, _cache) = check(
        SHARD,
        Fault::Silence(0),
        &[SHARD, "nothing arrived for 300ms after 0 of 173128 bytes"],
    );
    assert_eq!(asked(&hub), [None]);
}

#[test]
fn a_file_of_another_length_or_content_is_not_kept() {
    check(
        SHARD,
        Fault::Length(1_000),
        &[SHARD, "should have 173128 bytes, and the hub offers 1000"],
    );
    check(
        SHARD,
        Fault::Length(200_000),
        &[SHARD, "should have 173128 bytes, and the hub offers 200000"],
    );
    let (hub, _cache) = check(
        SHARD,
        Fault::Garbled,
        &[SHARD, "other content than the hub announced", "was removed"],
    );
    assert_eq!(asked(&hub), [None]);
}

#[test]
fn what_is_left_of_an_earlier_attempt_is_used_only_where_it_fits() {
    let prepared = |bytes: &[u8]| {
        let hub = StandIn::of(&checkpoint());
        let cache = tempfile::tempdir().unwrap();
        let settings = settings(&hub.endpoint, cache.path());
        hub.fail(SHARD, Fault::Cut(0));
        get(&settings).unwrap_err();
        let (path, _) = incomplete(cache.path()).remove(0);
        fs::write(path, bytes).unwrap();
        hub.recover();
        hub.requests();
        (hub, cache, settings)
    };
    let whole = fs::read(checkpoint().join(SHARD)).unwrap();

    let (hub, _cache, settings) = prepared(&whole[..50_000]);
    check_whole(&hub, &get(&settings).unwrap());
    assert_eq!(asked(&hub), [Some(50_000)]);

    // All of it was there, but for its name.
    let (hub, _cache, settings) = prepared(&whole);
    check_whole(&hub, &get(&settings).unwrap());
    assert_eq!(asked(&hub), []);

    // A server that begins anew.
    let (hub, _cache, settings) = prepared(&whole[..50_000]);
    hub.fail(SHARD, Fault::Whole);
    check_whole(&hub, &get(&settings).unwrap());

    // More than there is.
    let (hub, _cache, settings) = prepared(&[whole.as_slice(), b"more"].concat());
    check_whole(&hub, &get(&settings).unwrap());
    assert_eq!(asked(&hub), [None]);

    // Something else: its hash shows it, and the next attempt begins anew.
    let (hub, cache, settings) = prepared(&[0; 50_000]);
    let error = get(&settings).unwrap_err().to_string();
    assert!(
        error.contains("other content than the hub announced"),
        "{error}"
    );
    assert!(incomplete(cache.path()).is_empty());
    check_whole(&hub, &get(&settings).unwrap());
}

#[test]
fn an_interrupted_download_is_kept() {
    let hub = StandIn::of(&checkpoint());
    let cache = tempfile::tempdir().unwrap();
    let settings = settings(&hub.endpoint, cache.path());
    let error = hub::snapshot(&settings, ID, None, &mut |progress| match progress {
        Progress::File { name, done, .. } if name == SHARD && done > 0 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("interrupted after "), "{error}");
    let (_, kept) = incomplete(cache.path()).remove(0);
    assert!(kept > 0);
    hub.requests();
    check_whole(&hub, &get(&settings).unwrap());
    let from = asked(&hub);
    assert!(from.is_empty() || from == [Some(kept as usize)], "{from:?}");
}

#[test]
fn the_token_goes_to_the_hub_and_to_no_other_host() {
    let hub = StandIn::of(&checkpoint());
    let cache = tempfile::tempdir().unwrap();
    let settings = Settings {
        token: Some("secret".to_owned()),
        ..settings(&hub.endpoint, cache.path())
    };
    get(&settings).unwrap();
    for request in hub.requests() {
        let expected = match request.path.starts_with("/elsewhere/") {
            true => None,
            false => Some("Bearer secret".to_owned()),
        };
        assert_eq!(request.token, expected, "{}", request.path);
    }
    hub.fail("blobs=true", Fault::Status(401, ""));
    let error = get(&settings).unwrap_err().to_string();
    assert!(
        error.contains("the token that was given does not open it"),
        "{error}"
    );
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn a_cache_that_lacks_a_file_is_not_taken_for_whole() {
    let hub = StandIn::of(&checkpoint());
    let cache = tempfile::tempdir().unwrap();
    let settings = settings(&hub.endpoint, cache.path());
    let snapshot = get(&settings).unwrap();
    fs::remove_file(fs::canonicalize(snapshot.folder.join(SHARD)).unwrap()).unwrap();
    let offline = Settings {
        offline: true,
        ..settings.clone()
    };
    let error = get(&offline).unwrap_err().to_string();
    assert!(
        error.contains("the cache lacks ") && error.contains(SHARD),
        "{error}"
    );
    check_whole(&hub, &get(&settings).unwrap());
}

#[test]
fn a_repository_without_a_model_is_refused() {
    let check = |without: &[&str], expected: &str| {
        let dir = tempfile::tempdir().unwrap();
        for name in names(&checkpoint()) {
            if !without.iter().any(|part| name.contains(part)) {
                fs::copy(checkpoint().join(&name), dir.path().join(&name)).unwrap();
            }
        }
        let hub = StandIn::of(dir.path());
        let cache = tempfile::tempdir().unwrap();
        let error = get(&settings(&hub.endpoint, cache.path()))
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{without:?}: {error}");
    };
    check(&["config.json"], "it holds no config.json");
    check(&["tokenizer.json"], "it holds no tokenizer.json");
    check(&["model"], "it holds no model*.safetensors");
    check(
        &["00002"],
        "names model-00002-of-00003.safetensors, which it does not hold",
    );
}

#[test]
fn ids_are_told_from_paths() {
    let check = |name: &str, expected: bool| assert_eq!(hub::is_id(name), expected, "{name}");
    check("LiquidAI/LFM2-1.2B", true);
    check("a/b", true);
    check("lfm2-1.2b", false);
    check("./a", false);
    check("../a", false);
    check("/a/b", false);
    check("a/b/c", false);
    check("a/..", false);
    check("a/", false);
}
