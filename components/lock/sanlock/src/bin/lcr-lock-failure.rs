//! `lcr-lock-failure ACTION PID`: what sanlock runs when the leases of a guest that is a
//! plain process are lost. The driver's parameter `handler` names it.
//!
//! `poweroff`, `restart`: the process gets SIGTERM; starting it again is its manager's.
//! `pause`: it is stopped (SIGSTOP), and gives its leases up: so it is not killed, and can
//! be resumed when they have been acquired again. `ignore`: it gives them up, and writes
//! on.

use std::process::ExitCode;

use rustix::process::{Pid, Signal, kill_process};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [action, pid] = &arguments[..] else {
        eprintln!("usage: lcr-lock-failure poweroff|restart|pause|ignore PID");
        return ExitCode::from(2);
    };
    match act(action, pid) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lcr-lock-failure: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(action: &str, pid: &str) -> Result<(), String> {
    let number: u32 = pid.parse().map_err(|_| format!("`{pid}` is no process"))?;
    let process = Pid::from_raw(number.cast_signed()).ok_or_else(|| format!("`{pid}` is no process"))?;
    let signal = |signal| kill_process(process, signal).map_err(|error| format!("process {pid}: {error}"));
    match action {
        "poweroff" | "restart" => signal(Signal::TERM),
        "pause" => {
            signal(Signal::STOP)?;
            lcr_lock_sanlock::give_up(None, number)
        }
        "ignore" => lcr_lock_sanlock::give_up(None, number),
        other => Err(format!("`{other}` is no action: there are poweroff, restart, pause, ignore")),
    }
}
