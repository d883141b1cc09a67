//! Which program is meant: a pid, a program's name, or a socket.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use lcr_control::client::{Client, Error};
use lcr_control::place::{self, Found};
use serde_json::{Value, json};

use crate::output::path;
use crate::refusal::Refusal;

/// How long a program may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// A program that was asked what it is.
pub(crate) struct Asked {
    pub(crate) found: Found,
    /// What `List` answered.
    pub(crate) answer: Result<Value, Error>,
}

/// All programs that have a socket where one can be; those that died are left out.
pub(crate) fn all() -> Vec<Asked> {
    let found = place::sockets();
    // At the same time: one that hangs delays no other.
    let mut all: Vec<Asked> = thread::scope(|scope| {
        let threads: Vec<_> = found.into_iter().map(|found| scope.spawn(|| ask(found))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    // Nobody has removed it yet.
    all.retain(|asked| {
        !matches!(&asked.answer, Err(Error::Connect { source, .. })
        if matches!(source.kind(), std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound))
    });
    all
}

fn ask(found: Found) -> Asked {
    let answer = list(&found.path);
    Asked { found, answer }
}

/// What a program says of itself.
pub(crate) fn list(socket: &Path) -> Result<Value, Error> {
    let mut client = Client::connect(socket)?;
    client.timeout(Some(PATIENCE))?;
    client.call("List", json!({}))
}

/// Connects to the program that is meant, and sees that it answers: one that is stopped would
/// be waited for without end, for it cannot be said how long what is asked of it takes.
pub(crate) fn connect(target: &str) -> crate::Result<Client> {
    let socket = socket(target)?;
    let connect = || {
        let mut client = Client::connect(&socket)?;
        client.timeout(Some(PATIENCE))?;
        client.call("List", json!({}))?;
        client.timeout(None)?;
        Ok(client)
    };
    connect().map_err(|error| refusal(target, &error))
}

/// The socket of the program that is meant.
pub(crate) fn socket(target: &str) -> crate::Result<PathBuf> {
    if target.contains('/') {
        return Ok(PathBuf::from(target));
    }
    if let Ok(pid) = target.parse::<u32>() {
        let found = place::sockets().into_iter().find(|found| found.pid == pid);
        return found.map(|found| found.path).ok_or_else(|| unreachable(target, pid));
    }
    let named = |asked: &Asked| asked.answer.as_ref().is_ok_and(|list| list["program"] == target);
    let (mut found, others): (Vec<Asked>, Vec<Asked>) = all().into_iter().partition(named);
    match found.len() {
        1 => Ok(found.remove(0).found.path),
        0 => {
            let mut refusal = Refusal::new(format!("no reachable program is called {target}"));
            for asked in &others {
                if let Ok(list) = &asked.answer {
                    let program = list["program"].as_str().unwrap_or("?");
                    refusal = refusal.detail(format!("{} is {program}", asked.found.pid));
                }
            }
            if others.is_empty() {
                refusal = refusal.detail(NONE);
            }
            Err(refusal)
        }
        several => {
            let refusal =
                Refusal::new(format!("{several} programs are called {target}: name one by its pid"));
            Err(found.iter().fold(refusal, |refusal, asked| refusal.detail(asked.found.pid)))
        }
    }
}

/// What to do where nothing is found.
pub(crate) const NONE: &str =
    "a program can be reached that calls lcr_control::start(), with the same LCR_RUNTIME_DIR as here";

fn unreachable(target: &str, pid: u32) -> Refusal {
    let places: Vec<String> = place::directories().iter().map(|directory| path(directory)).collect();
    let refusal = if Path::new(&format!("/proc/{pid}")).exists() {
        Refusal::new(format!("process {target} has no control socket of yours")).detail(NONE)
    } else {
        Refusal::new(format!("there is no process {target}"))
    };
    refusal.detail(format!("looked into {}", places.join(", ")))
}

/// Why a program does not answer, in terms of what the user named.
pub(crate) fn refusal(target: &str, error: &Error) -> Refusal {
    use std::io::ErrorKind;
    match error {
        Error::Connect { path: socket, source } => match source.kind() {
            ErrorKind::ConnectionRefused if !is_socket(socket) => {
                Refusal::new(format!("{} is no socket", path(socket)))
                    .detail("name a program by its pid, its name, or the socket that it printed")
            }
            ErrorKind::ConnectionRefused => {
                Refusal::new(format!("nobody listens on {} any more", path(socket)))
                    .detail("the program has ended, and the next one to start removes its socket")
            }
            ErrorKind::PermissionDenied => Refusal::new(format!(
                "{target} is not yours to ask: its socket {} is another user's",
                path(socket)
            ))
            .detail("the user that it runs as can, and root"),
            _ => Refusal::new(error),
        },
        Error::Lost { source, .. }
            if matches!(source.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
        {
            Refusal::new(format!("{target} does not answer"))
                .detail(format!("it was waited for {} s: is it stopped?", PATIENCE.as_secs()))
        }
        Error::Lost { .. } => Refusal::new(format!("{target} hung up before it answered"))
            .detail("did it end? if not, ask once more"),
        _ => Refusal::new(error),
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    // One that has gone meanwhile was one.
    std::fs::metadata(path).map_or(true, |status| status.file_type().is_socket())
}

/// A file as the program has to open it.
pub(crate) fn absolute(file: &Path) -> crate::Result<String> {
    let absolute =
        std::path::absolute(file).map_err(|error| Refusal::new(format!("{}: {error}", path(file))))?;
    let text = absolute.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        Refusal::new(format!("{} is not UTF-8, and cannot be named to a program", path(file)))
            .detail("copy it to a name that is")
    })
}
