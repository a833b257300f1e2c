//! What a git repository is asked: records on a branch, and the order of commits. Only plumbing
//! that neither checks out nor changes anything.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, anyhow, bail, ensure};
use metrics::{history::Commits, store};

/// No record on a branch is larger than this: a million iterations have 400 MB.
const LARGEST_RECORD: u64 = 512 << 20;

fn git(repository: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(repository);
    command
}

/// What a command prints, given this on its stdin.
fn output(mut command: Command, input: String) -> anyhow::Result<Vec<u8>> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start git")?;
    let mut stdin = child.stdin.take().context("git has no stdin")?;
    // While it is written to, git may wait for somebody to read. Where it has ended early, its
    // exit code says why.
    let writer = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let finished = child.wait_with_output().context("cannot wait for git")?;
    // It cannot panic.
    let _ = writer.join();
    if !finished.status.success() {
        let problem = String::from_utf8_lossy(&finished.stderr);
        bail!("git: {}", problem.trim());
    }
    Ok(finished.stdout)
}

/// Every record of a revision, with the way to its folder, as text. A file that is no text of a
/// record is handed on as an error.
///
/// # Errors
///
/// Where the repository cannot be read. What is wrong with one record is for `each`.
pub(crate) fn records(
    repository: &Path,
    revision: &str,
    mut each: impl FnMut(&str, Result<String, String>),
) -> anyhow::Result<()> {
    let mut resolve = git(repository);
    resolve.args(["rev-parse", "--verify", "--end-of-options", revision]);
    let tree = output(resolve, String::new())
        .with_context(|| format!("cannot find {revision} in {}", repository.display()))?;
    let mut list = git(repository);
    list.args(["ls-tree", "-r", "-z", "--full-tree"]);
    list.arg(String::from_utf8_lossy(&tree).trim());
    let list = output(list, String::new())
        .with_context(|| format!("cannot list the files of {revision}"))?;
    let found = list.split(|byte| *byte == 0).filter_map(record_of);
    let found: Vec<(String, String)> = found.collect();

    let mut blobs = git(repository)
        .args(["cat-file", "--batch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start git")?;
    let mut questions = blobs.stdin.take().context("git has no stdin")?;
    let mut answers = BufReader::new(blobs.stdout.take().context("git has no stdout")?);
    for (object, folder) in found {
        writeln!(questions, "{object}").context("cannot ask git")?;
        let mut head = String::new();
        answers
            .read_line(&mut head)
            .context("cannot read from git")?;
        let size = head.split_whitespace().nth(2);
        let size: u64 = size
            .and_then(|size| size.parse().ok())
            .with_context(|| format!("git has no file for {folder}: {}", head.trim()))?;
        ensure!(
            size <= LARGEST_RECORD,
            "{folder} has a record of {size} bytes, which is none of a run"
        );
        let mut bytes = vec![0; size as usize + 1];
        answers
            .read_exact(&mut bytes)
            .with_context(|| format!("cannot read {folder} from git"))?;
        bytes.pop();
        each(
            &folder,
            String::from_utf8(bytes).map_err(|error| error.to_string()),
        );
    }
    drop(questions);
    let status = blobs.wait().context("cannot wait for git")?;
    ensure!(status.success(), "git cat-file ended with {status}");
    Ok(())
}

/// Object and folder of an entry of `git ls-tree` that is a record and no link.
fn record_of(entry: &[u8]) -> Option<(String, String)> {
    let entry = String::from_utf8_lossy(entry);
    let (about, path) = entry.split_once('\t')?;
    let mut about = about.split(' ');
    let regular = about.next()?.starts_with("100");
    let object = about.nth(1)?.to_owned();
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    (regular && name == store::FILE_NAME).then(|| (object, folder.to_owned()))
}

/// The commits of a repository up to these, as far as it has them.
pub(crate) fn commits<'a>(
    repository: &Path,
    ids: impl Iterator<Item = &'a str>,
) -> anyhow::Result<Commits> {
    // What a record says is its commit need not be one.
    let plain =
        |id: &&str| matches!(id.len(), 40 | 64) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let ids: String = ids.filter(plain).flat_map(|id| [id, "\n"]).collect();
    let cannot = || format!("cannot read the commits of {}", repository.display());
    let mut list = git(repository);
    match ids.is_empty() {
        // git takes no revision at all for a mistake; still it has to be a repository.
        true => list.args(["rev-list", "--no-walk", "--all", "--max-count=0"]),
        false => list
            .args(["rev-list", "--timestamp", "--parents", "--reverse"])
            .args(["--date-order", "--ignore-missing", "--stdin"]),
    };
    let text = output(list, ids).with_context(cannot)?;
    let text = String::from_utf8(text).with_context(cannot)?;
    Commits::parse(&text).map_err(|problem| anyhow!(problem).context(cannot()))
}
