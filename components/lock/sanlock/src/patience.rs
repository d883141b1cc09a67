//! Asking again: what is in somebody's hands for a moment only is no refusal.

use std::time::Duration;

use crate::code;

/// How often a lease is asked for that is in somebody's hands for a moment only, and how
/// long is waited in between.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);

/// The daemon does one command at a time for a process, and refuses a second one.
pub(crate) fn is_busy(number: i32) -> bool {
    number == code::EBUSY
}

/// Asks again, a few times, as long as the answer is one that passes.
pub(crate) fn patiently<T>(
    mut ask: impl FnMut() -> Result<T, i32>,
    passes: impl Fn(i32) -> bool,
) -> Result<T, i32> {
    let mut left = ATTEMPTS;
    loop {
        match ask() {
            Err(number) if left > 0 && passes(number) => {
                left -= 1;
                pause(left);
            }
            answer => return answer,
        }
    }
}

/// Two that vote at once must not do so again and again: each waits in its own way.
pub(crate) fn pause(left: u32) {
    let apart = (std::process::id() + left * 7) % 20;
    std::thread::sleep(PAUSE + Duration::from_millis(apart.into()));
}
