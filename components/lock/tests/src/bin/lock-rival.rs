//! `lock-rival try FILE`: tries to lock the file's first byte all the time, until the
//! standard input ends; then says how often it has tried, and how often it got it.
//! `lock-rival hold FILE`: takes the older kind of lock, and waits for the same.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, path] = &arguments[..] else { return Err("two arguments".into()) };
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let set = |command: libc::c_int, kind: libc::c_int| {
        // SAFETY: a structure of integers, for which zeros are a value.
        let mut lock: libc::flock64 = unsafe { std::mem::zeroed() };
        lock.l_type = kind as _;
        lock.l_len = 1;
        // SAFETY: the file is open, and the command takes a `flock64`.
        unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) == 0 }
    };
    let say = |line: &str| -> std::io::Result<()> {
        let mut output = std::io::stdout().lock();
        output.write_all(line.as_bytes())?;
        output.flush()
    };
    if what == "hold" {
        if !set(libc::F_SETLK, libc::F_WRLCK) {
            return Err("the lock is not free".into());
        }
        say("ready\n")?;
        std::io::stdin().read_to_end(&mut Vec::new())?;
        return Ok(say("1 1\n")?);
    }
    let ended = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&ended);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        end.store(true, Ordering::Release);
    });
    let (mut tried, mut got) = (0_u64, 0_u64);
    while !ended.load(Ordering::Acquire) {
        tried += 1;
        if set(libc::F_OFD_SETLK, libc::F_WRLCK) {
            got += 1;
            set(libc::F_OFD_SETLK, libc::F_UNLCK);
        }
        if tried == 1 {
            say("ready\n")?;
        }
    }
    say(&format!("{tried} {got}\n"))?;
    Ok(())
}
