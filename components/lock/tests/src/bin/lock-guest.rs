//! `lock-guest`: a guest that says what reaches it, a line each: `ready`, `int`, `usr1`,
//! and what it reads. It ends with its standard input, with status 0; and by SIGTERM,
//! with status 3. `lock-guest headless` does so on another thread, when its first has ended.

use std::io::{BufRead as _, Write as _};
use std::sync::mpsc;

fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    // It is a test's pipe: who does not read it has ended.
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

fn main() {
    let (tell, told) = mpsc::channel();
    let names =
        [(libc::SIGINT, "int"), (libc::SIGTERM, "term"), (libc::SIGUSR1, "usr1"), (libc::SIGHUP, "hup")];
    // SAFETY: a set is made before it is used, and no thread is there yet.
    let signals = unsafe {
        let mut signals: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut signals);
        for (number, _) in names {
            libc::sigaddset(&raw mut signals, number);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, std::ptr::null_mut());
        signals
    };
    let of_signals = tell.clone();
    std::thread::spawn(move || {
        loop {
            let mut number = 0;
            // SAFETY: both live for the call.
            let waited = unsafe { libc::sigwait(&raw const signals, &raw mut number) };
            let name = names.iter().find(|(of_it, _)| waited == 0 && *of_it == number);
            if let Some((_, name)) = name
                && of_signals.send(Some((*name).to_owned())).is_err()
            {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if tell.send(Some(format!("read {line}"))).is_err() {
                return;
            }
        }
        let _ = tell.send(None);
    });
    if std::env::args().nth(1).as_deref() == Some("headless") {
        // The first thread ends, and the process goes on with another.
        std::thread::spawn(move || serve(&told));
        // SAFETY: nothing of this thread is used by another.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
        unreachable!("a thread that has ended goes on");
    }
    serve(&told);
}

fn serve(told: &mpsc::Receiver<Option<String>>) {
    say("ready");
    while let Ok(Some(line)) = told.recv() {
        say(&line);
        if line == "term" {
            std::process::exit(3);
        }
    }
}
