//! A stand-in for the hub on this machine: it serves a folder as a model, and fails as told.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use model::weights::sha256_hex;
use serde_json::json;

pub(crate) const ID: &str = "owner/model";
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong with a path that ends in a text.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This status, with further header lines.
    Status(u16, &'static str),
    /// The connection ends after so many bytes of the body, whatever its length was said to be.
    Cut(usize),
    /// Nothing comes after so many bytes of the body.
    Silence(usize),
    /// The body has another length than was announced, and says so.
    Length(usize),
    /// The body ends early without a length that was given.
    CutUnannounced(usize),
    /// The body holds other bytes of the same length.
    Garbled,
    /// All of the file, though a part was asked for.
    Whole,
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    /// First byte asked for.
    pub(crate) from: Option<usize>,
    pub(crate) token: Option<String>,
}

struct State {
    files: BTreeMap<String, Vec<u8>>,
    faults: Vec<(&'static str, Fault)>,
    requests: Vec<Request>,
    /// Where large files are redirected to: another host, as on the hub.
    elsewhere: String,
}

pub(crate) struct StandIn {
    pub(crate) endpoint: String,
    state: Arc<Mutex<State>>,
}

impl StandIn {
    /// Serves the files of a folder, and of no folder in it.
    pub(crate) fn of(folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            files,
            faults: Vec::new(),
            requests: Vec::new(),
            elsewhere: format!("http://localhost:{port}"),
        }));
        let shared = state.clone();
        // Ends with the test program.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                thread::spawn(move || {
                    let _ = answer(stream, &shared);
                });
            }
        });
        Self {
            endpoint: format!("http://127.0.0.1:{port}"),
            state,
        }
    }

    /// From now on, requests of paths that end in `path` fail like this.
    pub(crate) fn fail(&self, path: &'static str, fault: Fault) {
        self.state.lock().unwrap().faults = vec![(path, fault)];
    }

    pub(crate) fn recover(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    /// The requests since this was last asked.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    pub(crate) fn file(&self, name: &str) -> Vec<u8> {
        self.state.lock().unwrap().files[name].clone()
    }
}

/// An endpoint at which nobody listens.
pub(crate) fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let Some(Ok(first)) = lines.next() else {
        return Ok(());
    };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut from = None;
    let mut token = None;
    for line in lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
    {
        let (name, value) = line.split_once(": ").unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let start = value.trim_start_matches("bytes=").trim_end_matches('-');
                from = start.parse().ok();
            }
            "authorization" => token = Some(value.to_owned()),
            _ => {}
        }
    }
    let (fault, body, location) = {
        let mut state = state.lock().unwrap();
        state.requests.push(Request {
            path: path.clone(),
            from,
            token,
        });
        let fault = state.faults.iter().find(|(end, _)| path.ends_with(end));
        let fault = fault.map(|(_, fault)| fault.clone());
        let name = path.rsplit('/').next().unwrap_or_default();
        let resolve = format!("/{ID}/resolve/{COMMIT}/");
        let (body, location) = if path.starts_with(&format!("/api/models/{ID}/revision/")) {
            (Some(listing(&state.files)), None)
        } else if path.starts_with("/elsewhere/") {
            (state.files.get(name).cloned(), None)
        } else if path.starts_with(&resolve) && name.ends_with(".safetensors") {
            (None, Some(format!("{}/elsewhere/{name}", state.elsewhere)))
        } else if path.starts_with(&resolve) {
            (state.files.get(name).cloned(), None)
        } else {
            (None, None)
        };
        (fault, body, location)
    };
    let head = |status: &str, lines: &str| {
        format!("HTTP/1.1 {status}\r\n{lines}Connection: close\r\n\r\n")
    };
    if let Some(Fault::Status(status, lines)) = fault {
        let head = head(
            &format!("{status} X"),
            &format!("{lines}Content-Length: 0\r\n"),
        );
        return stream.write_all(head.as_bytes());
    }
    if let Some(location) = location {
        let lines = format!("Location: {location}\r\nContent-Length: 0\r\n");
        return stream.write_all(head("302 Found", &lines).as_bytes());
    }
    let Some(mut body) = body else {
        let head = head("404 Not Found", "Content-Length: 0\r\n");
        return stream.write_all(head.as_bytes());
    };
    if let Some(Fault::Garbled) = fault {
        body.iter_mut().for_each(|byte| *byte = !*byte);
    }
    if let Some(Fault::Length(length)) = fault {
        body.resize(length, 0);
    }
    let size = body.len();
    let from = from.filter(|_| !matches!(fault, Some(Fault::Whole)));
    let rest = body[from.unwrap_or(0).min(size)..].to_vec();
    let length = format!("Content-Length: {}\r\n", rest.len());
    let header = match (from, &fault) {
        (_, Some(Fault::CutUnannounced(_))) => head("200 OK", ""),
        (Some(from), _) => {
            let range = format!("Content-Range: bytes {from}-{}/{size}\r\n", size - 1);
            head("206 Partial Content", &format!("{range}{length}"))
        }
        (None, _) => head("200 OK", &length),
    };
    stream.write_all(header.as_bytes())?;
    match fault {
        Some(Fault::Cut(bytes) | Fault::CutUnannounced(bytes)) => {
            stream.write_all(&rest[..bytes.min(rest.len())])
        }
        Some(Fault::Silence(bytes)) => {
            stream.write_all(&rest[..bytes.min(rest.len())])?;
            stream.flush()?;
            thread::sleep(Duration::from_secs(60));
            Ok(())
        }
        _ => stream.write_all(&rest),
    }
}

/// What the hub says of a commit's files: those of weights are kept outside of Git.
fn listing(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let siblings: Vec<_> = files
        .iter()
        .map(|(name, bytes)| {
            let sha256 = sha256_hex(bytes);
            // Of a small file the hub says the hash of Git, of which only the form matters here.
            let blob = &sha256[..40];
            match name.ends_with(".safetensors") {
                true => json!({
                    "rfilename": name, "size": bytes.len(), "blobId": blob,
                    "lfs": {"sha256": sha256, "size": bytes.len(), "pointerSize": 134},
                }),
                false => json!({"rfilename": name, "size": bytes.len(), "blobId": blob}),
            }
        })
        .collect();
    let others = [json!({"rfilename": ".gitattributes", "size": 1, "blobId": "0"})];
    let siblings: Vec<_> = siblings.into_iter().chain(others).collect();
    json!({"sha": COMMIT, "siblings": siblings})
        .to_string()
        .into_bytes()
}
