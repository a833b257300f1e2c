//! Files of a model on the Hugging Face hub, kept in its standard cache.
//!
//! The cache is the one that Python's `huggingface_hub` and `hf-hub` share: content under
//! `blobs/`, a folder of links to it for every commit under `snapshots/`, and the commit that a
//! branch pointed to under `refs/`. A file is written as `<blob>.incomplete` and renamed once its
//! length and its SHA-256, where the hub says one, are what the hub announced; a branch is noted
//! once everything is there. So what is cut off is gone on with, and never taken for whole.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    ops::ControlFlow,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use ureq::{
    Agent, Body,
    http::{Response, StatusCode, header},
};

use crate::{Error, Result, weights};

/// Where models are, where nothing else is set.
const ENDPOINT: &str = "https://huggingface.co";

const DEFAULT_REVISION: &str = "main";

/// Files of a model beside its weights. The first ones it cannot do without.
const FILES: [&str; 7] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    INDEX,
];
const NEEDED: usize = 2;
const INDEX: &str = "model.safetensors.index.json";

/// How often a connection may be cut while it brings something each time.
const MOST_CUTS: u32 = 5;

/// What goes on between here and the hub.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// So many bytes of a file are here.
    File {
        name: &'a str,
        done: u64,
        total: u64,
    },
    /// The hub cannot be asked, and the cache has what it said last.
    Cached { reason: &'a str },
}

/// Is told how it goes, and says whether to go on.
pub type Watch<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// A model's files in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub folder: PathBuf,
    pub commit: String,
}

/// Where the hub and its cache are.
#[derive(Clone)]
pub struct Settings {
    pub endpoint: String,
    /// The folder of `models--*`.
    pub cache: PathBuf,
    pub token: Option<String>,
    /// Never ask the hub.
    pub offline: bool,
    /// Longest wait for a connection, an answer, or the next bytes.
    pub patience: Duration,
}

impl Settings {
    /// Reads `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_HUB_OFFLINE` and
    /// `HF_HUB_DOWNLOAD_TIMEOUT` (seconds), with the defaults of `huggingface_hub`.
    ///
    /// # Errors
    ///
    /// A timeout that is no number of seconds.
    pub fn from_env() -> Result<Self> {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
        let timeout = "HF_HUB_DOWNLOAD_TIMEOUT";
        let patience = match set(timeout) {
            None => Duration::from_secs(10),
            Some(text) => {
                let seconds = text.trim().parse().ok().filter(|&seconds| seconds > 0.0);
                let patience = seconds
                    .map(Duration::try_from_secs_f64)
                    .and_then(Result::ok);
                patience.ok_or_else(|| {
                    Error::Invalid(format!("{timeout} is `{text}`; give seconds above 0"))
                })?
            }
        };
        let on = |value: String| {
            let value = value.trim().to_ascii_lowercase();
            ["1", "on", "yes", "true"].contains(&value.as_str())
        };
        Ok(Self {
            endpoint: set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into()),
            cache: match set("HF_HUB_CACHE") {
                Some(cache) => cache.into(),
                None => Cache::from_env().path().clone(),
            },
            token: match set("HF_TOKEN") {
                Some(token) => Some(token.trim().to_owned()),
                None => Cache::from_env().token(),
            },
            offline: set("HF_HUB_OFFLINE").is_some_and(on),
            patience,
        })
    }
}

/// Whether this can be the id of a model: an owner and a name.
pub fn is_id(name: &str) -> bool {
    let part = |part: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(known)
    };
    matches!(name.split_once('/'), Some((owner, model)) if part(owner) && part(model))
}

/// Gets the files of model `id` at a branch, tag or commit (`main` where none is given), as far as
/// they are not in the cache.
///
/// Where the hub cannot be reached, or is not to be asked, this is what the cache holds of what it
/// said last.
///
/// # Errors
///
/// No such model, no access, a network that fails, content that is not what the hub announced, or
/// a cache that cannot be written.
pub fn snapshot(
    settings: &Settings,
    id: &str,
    revision: Option<&str>,
    watch: &mut Watch,
) -> Result<Snapshot> {
    let revision = revision.unwrap_or(DEFAULT_REVISION);
    let segment = |part: &str| !part.is_empty() && !part.starts_with('.');
    let known = |c: char| c.is_ascii_alphanumeric() || "-_./+".contains(c);
    if !revision.chars().all(known) || !revision.split('/').all(segment) {
        return Err(Error::Invalid(format!(
            "`{revision}` is no revision; give a branch, a tag or a commit"
        )));
    }
    let hub = Hub::new(settings, id, revision);
    if settings.offline {
        return hub.cached().map_err(|lacking| {
            hub.error(format!(
                "{lacking}, and HF_HUB_OFFLINE is set; unset it once to fetch the model"
            ))
        });
    }
    // A commit never changes.
    if is_commit(revision)
        && let Ok(snapshot) = hub.cached()
    {
        return Ok(snapshot);
    }
    let listing = match hub.listing() {
        Ok(listing) => listing,
        Err(Failure::Unreachable(reason)) => {
            let Ok(snapshot) = hub.cached() else {
                return Err(hub.error(reason));
            };
            let _ = watch(Progress::Cached { reason: &reason });
            return Ok(snapshot);
        }
        Err(failure) => return Err(hub.failed(failure)),
    };
    hub.fetch(&listing, watch)
}

/// A model on the hub, and its place in the cache.
struct Hub<'a> {
    settings: &'a Settings,
    id: &'a str,
    revision: &'a str,
    agent: Agent,
    folder: PathBuf,
    cache: CacheRepo,
}

/// The files of one commit, as the hub lists them.
#[derive(Debug, Deserialize)]
pub struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

impl Listing {
    /// Reads what the hub answered.
    ///
    /// # Errors
    ///
    /// What is wrong with the answer, as a fragment of a sentence.
    pub fn parse(answer: &[u8]) -> Result<Self, String> {
        let listing: Self = serde_json::from_slice(answer)
            .map_err(|error| format!("does not answer as a hub does ({error})"))?;
        match is_commit(&listing.sha) {
            true => Ok(listing),
            false => Err(format!("names `{}`, which is no commit", listing.sha)),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Sibling {
    #[serde(rename = "rfilename")]
    name: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob: Option<String>,
    lfs: Option<Lfs>,
}

/// Of a file that is kept outside of Git.
#[derive(Debug, Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

/// A file to fetch.
struct Wanted<'a> {
    name: &'a str,
    size: u64,
    /// Its name under `blobs/`.
    blob: &'a str,
    sha256: Option<&'a str>,
}

enum Failure {
    /// The network failed, not the hub.
    Unreachable(String),
    /// The connection ended or fell silent within a file.
    Cut(String),
    Other(String),
    /// This machine failed.
    Here(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Here(error)
    }
}

impl<'a> Hub<'a> {
    fn new(settings: &'a Settings, id: &'a str, revision: &'a str) -> Self {
        let repo = Repo::with_revision(id.into(), RepoType::Model, revision.into());
        let patience = Some(settings.patience);
        let agent = Agent::config_builder()
            .user_agent(concat!("lfmark/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .timeout_resolve(patience)
            .timeout_connect(patience)
            .timeout_recv_response(patience)
            .timeout_per_read(patience)
            .build();
        Self {
            settings,
            id,
            revision,
            agent: agent.into(),
            folder: settings.cache.join(repo.folder_name()),
            cache: Cache::new(settings.cache.clone()).repo(repo),
        }
    }

    fn error(&self, problem: String) -> Error {
        Error::Hub {
            id: self.id.to_owned(),
            problem,
        }
    }

    fn failed(&self, failure: Failure) -> Error {
        match failure {
            Failure::Unreachable(problem) | Failure::Cut(problem) | Failure::Other(problem) => {
                self.error(problem)
            }
            Failure::Here(error) => error,
        }
    }

    /// What the cache holds of the revision, where that is all of it; otherwise what it lacks.
    fn cached(&self) -> Result<Snapshot, String> {
        let noted = fs::read_to_string(self.folder.join("refs").join(self.revision));
        let commit = match noted {
            Ok(commit) => commit.trim().to_owned(),
            Err(_) => self.revision.to_owned(),
        };
        let folder = self.cache.pointer_path(&commit);
        if !is_commit(&commit) || !folder.is_dir() {
            return Err(format!(
                "the cache ({}) does not hold its revision `{}`",
                self.settings.cache.display(),
                self.revision
            ));
        }
        let weights = weights::shard_paths(&folder).unwrap_or_default();
        let needed = FILES[..NEEDED].iter().map(|name| folder.join(name));
        let missing = needed.chain(weights.clone()).find(|path| !path.is_file());
        match (missing, weights.is_empty()) {
            (None, false) => Ok(Snapshot { folder, commit }),
            (Some(missing), _) => Err(format!("the cache lacks {}", missing.display())),
            (None, true) => Err(format!("the cache lacks weights in {}", folder.display())),
        }
    }

    /// What the hub has at the revision.
    fn listing(&self) -> Result<Listing, Failure> {
        let revision = self.revision.replace('/', "%2F");
        let url = format!(
            "{}/api/models/{}/revision/{revision}?blobs=true",
            self.settings.endpoint, self.id
        );
        let mut response = self.get(&url, 0)?;
        let text = response.body_mut().read_to_vec();
        let text = text.map_err(|error| self.unreachable(&error))?;
        Listing::parse(&text)
            .map_err(|problem| Failure::Other(format!("{url} {problem}; check HF_ENDPOINT")))
    }

    /// Brings the files of a commit into the cache, and then notes the commit.
    fn fetch(&self, listing: &Listing, watch: &mut Watch) -> Result<Snapshot> {
        let folder = self.cache.pointer_path(&listing.sha);
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        for (place, name) in FILES.into_iter().enumerate() {
            match listing.siblings.iter().find(|it| it.name == name) {
                Some(file) => self.bring(listing, file, watch)?,
                None if place < NEEDED => {
                    return Err(
                        self.error(format!("it holds no {name}, so it is no model for lfmark"))
                    );
                }
                None => {}
            }
        }
        let is_weights = |name: &str| {
            name.starts_with("model") && name.ends_with(".safetensors") && !name.contains('/')
        };
        let mut names: Vec<String> = match folder.join(INDEX).is_file() {
            true => {
                let paths = weights::shard_paths(&folder)?;
                let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
                paths.iter().filter_map(name).collect()
            }
            false => {
                let names = listing.siblings.iter().map(|it| it.name.clone());
                names.filter(|name| is_weights(name)).collect()
            }
        };
        names.sort();
        if names.is_empty() {
            return Err(self.error(
                "it holds no model*.safetensors; use a copy of the model in that format".into(),
            ));
        }
        for name in names {
            let file = listing.siblings.iter().find(|it| it.name == name);
            let file = file.ok_or_else(|| {
                self.error(format!("its {INDEX} names {name}, which it does not hold"))
            })?;
            self.bring(listing, file, watch)?;
        }
        let noted = self.cache.create_ref(&listing.sha);
        noted.map_err(Error::io(
            "write",
            self.folder.join("refs").join(self.revision),
        ))?;
        Ok(Snapshot {
            folder,
            commit: listing.sha.clone(),
        })
    }

    /// Brings one file into the cache, unless it is there.
    fn bring(&self, listing: &Listing, file: &Sibling, watch: &mut Watch) -> Result<()> {
        let wanted = match (&file.lfs, file.size, &file.blob) {
            (Some(lfs), _, _) => Wanted {
                name: &file.name,
                size: lfs.size,
                blob: &lfs.sha256,
                sha256: Some(&lfs.sha256),
            },
            (None, Some(size), Some(blob)) => Wanted {
                name: &file.name,
                size,
                blob,
                sha256: None,
            },
            _ => {
                return Err(self.error(format!(
                    "the hub does not say how long {} is; check HF_ENDPOINT",
                    file.name
                )));
            }
        };
        if wanted.blob.is_empty() || !wanted.blob.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(self.error(format!("the hub gives {} no usable name", file.name)));
        }
        let pointer = self.cache.pointer_path(&listing.sha).join(&file.name);
        let blob = self.folder.join("blobs").join(wanted.blob);
        let whole = |path: &Path| fs::metadata(path).is_ok_and(|it| it.len() == wanted.size);
        if whole(&pointer) {
            return Ok(());
        }
        let _lock = self.lock(wanted.blob)?;
        // Another process may have been first.
        if !whole(&blob) {
            self.download(&listing.sha, &wanted, &blob, watch)?;
        }
        if fs::symlink_metadata(&pointer).is_ok() {
            fs::remove_file(&pointer).map_err(Error::io("replace", &pointer))?;
        }
        let target = Path::new("../../blobs").join(wanted.blob);
        symlink(target, &pointer).map_err(Error::io("create", &pointer))
    }

    /// Waits until no other process, `huggingface_hub` included, writes this blob.
    fn lock(&self, blob: &str) -> Result<File> {
        let repo = self.folder.file_name().unwrap_or_default();
        let dir = self.settings.cache.join(".locks").join(repo);
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let path = dir.join(format!("{blob}.lock"));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let file = file.map_err(Error::io("create", &path))?;
        file.lock().map_err(Error::io("lock", &path))?;
        Ok(file)
    }

    /// Downloads a file to `blob`, going on where an earlier attempt ended.
    fn download(
        &self,
        commit: &str,
        wanted: &Wanted,
        blob: &Path,
        watch: &mut Watch,
    ) -> Result<()> {
        let dir = self.folder.join("blobs");
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let partial = blob.with_extension("incomplete");
        let mut cuts = 0;
        loop {
            let before = fs::metadata(&partial).map_or(0, |it| it.len());
            let Err(failure) = self.attempt(commit, wanted, &partial, watch) else {
                break;
            };
            let after = fs::metadata(&partial).map_or(0, |it| it.len());
            cuts += 1;
            if !matches!(failure, Failure::Cut(_)) || after <= before || cuts > MOST_CUTS {
                return Err(self.failed(failure));
            }
        }
        if let Some(expected) = wanted.sha256 {
            let actual = sha256_of(&partial).map_err(Error::io("read", &partial))?;
            if actual != expected {
                fs::remove_file(&partial).map_err(Error::io("remove", &partial))?;
                return Err(self.error(format!(
                    "{} arrived with other content than the hub announced (SHA-256 {actual}, \
                     announced {expected}), and was removed; run again to fetch it anew",
                    wanted.name
                )));
            }
        }
        fs::rename(&partial, blob).map_err(Error::io("write", blob))
    }

    /// One request for the rest of a file.
    fn attempt(
        &self,
        commit: &str,
        wanted: &Wanted,
        partial: &Path,
        watch: &mut Watch,
    ) -> Result<(), Failure> {
        let Wanted { name, size, .. } = *wanted;
        let file = OpenOptions::new().append(true).create(true).open(partial);
        let mut file = file.map_err(Error::io("write", partial))?;
        let restart = |file: &File| file.set_len(0).map_err(Error::io("write", partial));
        let mut done = file.metadata().map_err(Error::io("read", partial))?.len();
        if done > size {
            restart(&file)?;
            done = 0;
        }
        if done == size {
            return Ok(());
        }
        let url = format!(
            "{}/{}/resolve/{commit}/{name}",
            self.settings.endpoint, self.id
        );
        let mut response = self.get(&url, done).map_err(|failure| match failure {
            Failure::Unreachable(problem) | Failure::Cut(problem) | Failure::Other(problem) => {
                let kept = match done {
                    0 => String::new(),
                    done => format!("; {done} of {size} bytes are kept for the next attempt"),
                };
                Failure::Other(format!("{name}: {problem}{kept}"))
            }
            here => here,
        })?;
        if response.status() == StatusCode::OK && done > 0 {
            // All of it, though the rest was asked for.
            restart(&file)?;
            done = 0;
        }
        if let Some((from, offered)) = offered(&response)
            && (from, offered) != (done, size)
        {
            return Err(Failure::Other(format!(
                "{name} should have {size} bytes, and the hub offers {offered} from byte {from} \
                 on; run again, and if that does not help, check HF_ENDPOINT"
            )));
        }
        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0; 1 << 18];
        loop {
            let kept = format!(
                "after {done} of {size} bytes, which are kept; run again to go on from there"
            );
            let event = Progress::File {
                name,
                done,
                total: size,
            };
            if watch(event).is_break() {
                return Err(Failure::Other(format!("{name}: interrupted {kept}")));
            }
            let read = match body.read(&mut buffer) {
                Ok(0) if done == size => return Ok(()),
                Ok(0) => {
                    return Err(Failure::Cut(format!("{name}: the connection ended {kept}")));
                }
                Ok(read) => read,
                Err(error) if is_timeout(&error) => {
                    let patience = self.settings.patience;
                    return Err(Failure::Cut(format!(
                        "{name}: nothing arrived for {patience:?} {kept}"
                    )));
                }
                Err(error) => {
                    return Err(Failure::Cut(format!(
                        "{name}: the connection was cut ({error}) {kept}"
                    )));
                }
            };
            done += read as u64;
            if done > size {
                restart(&file)?;
                return Err(Failure::Other(format!(
                    "{name} should have {size} bytes, and more arrived; nothing of it is kept"
                )));
            }
            file.write_all(&buffer[..read])
                .map_err(Error::io("write", partial))?;
        }
    }

    /// A successful answer to a request for what begins at byte `from`.
    fn get(&self, url: &str, from: u64) -> Result<Response<Body>, Failure> {
        let mut request = self
            .agent
            .get(url)
            .header(header::ACCEPT_ENCODING, "identity");
        if let Some(token) = &self.settings.token {
            // Other hosts, to which the hub may redirect, do not get it.
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        let response = request.call().map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let problem = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let token = match self.settings.token {
                    Some(_) => "the token that was given does not open it",
                    None => "no token was given",
                };
                format!(
                    "access is refused ({status}): there is no such model, or it is private or \
                     gated, and {token}; check the id, accept the model's conditions on its page, \
                     and set HF_TOKEN"
                )
            }
            StatusCode::NOT_FOUND => format!(
                "there is no such model, revision or file ({status}); check the id and --revision \
                 (`{}`)",
                self.revision
            ),
            StatusCode::TOO_MANY_REQUESTS => {
                let wait = response.headers().get(header::RETRY_AFTER);
                let wait = wait.and_then(|it| it.to_str().ok()?.parse::<u64>().ok());
                let when = wait.map_or("later".to_owned(), |it| format!("in {it} s"));
                format!(
                    "too many requests ({status}); run again {when}, or set HF_TOKEN, which \
                     allows more"
                )
            }
            status if status.is_server_error() => {
                format!("the hub fails ({status}); run again later")
            }
            status => format!("the hub answers {status}; check HF_ENDPOINT"),
        };
        Err(Failure::Other(problem))
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let endpoint = &self.settings.endpoint;
        let how = match error {
            ureq::Error::Timeout(_) => format!("no answer within {:?}", self.settings.patience),
            ureq::Error::Io(error) if is_timeout(error) => {
                format!("no answer within {:?}", self.settings.patience)
            }
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                return Failure::Other(format!("`{endpoint}` is no URL; check HF_ENDPOINT"));
            }
            error => error.to_string(),
        };
        Failure::Unreachable(format!(
            "cannot reach {endpoint} ({how}); check the network, or give a folder with the model"
        ))
    }
}

fn is_timeout(error: &io::Error) -> bool {
    let inner = error
        .get_ref()
        .and_then(|it| it.downcast_ref::<ureq::Error>());
    matches!(inner, Some(ureq::Error::Timeout(_)))
        || matches!(
            error.kind(),
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
        )
}

/// From which byte on an answer has a file, and how long it says that the file is.
fn offered(response: &Response<Body>) -> Option<(u64, u64)> {
    let text = |name| response.headers().get(name)?.to_str().ok();
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range = text(header::CONTENT_RANGE)?.strip_prefix("bytes ")?;
            let (range, size) = range.split_once('/')?;
            Some((range.split_once('-')?.0.parse().ok()?, size.parse().ok()?))
        }
        _ => Some((0, text(header::CONTENT_LENGTH)?.parse().ok()?)),
    }
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.chars().all(|c| c.is_ascii_hexdigit())
}

fn sha256_of(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(weights::hex(hash.finalize().as_slice())),
            read => hash.update(&buffer[..read]),
        }
    }
}
