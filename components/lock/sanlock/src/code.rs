//! What the daemon's numbers mean, and what to do about each.
//!
//! sanlock answers with negative numbers: those of `sanlock_rv.h` below -200, and the
//! system's error numbers above. Some of the latter mean something of their own here:
//! -17, "File exists", is a lease that another process of this host has.

use lcr_lock::{Error, Kind, Operation};

use crate::NAME;

/// A number.
struct Known {
    number: i32,
    name: &'static str,
    kind: Kind,
    meaning: &'static str,
    hint: &'static str,
}

const fn known(
    number: i32,
    name: &'static str,
    kind: Kind,
    meaning: &'static str,
    hint: &'static str,
) -> Known {
    Known { number, name, kind, meaning, hint }
}

const STOP_IT: &str = "stop the guest that has it, or give it to both in shared mode";
const STORAGE: &str =
    "look at the storage that holds the lease, and at sanlock's log (`sanlock client log_dump`)";
const DAMAGED: &str = "what lies there is no sound lease: stop all guests that use it and initialise it again \
                       (`sanlock direct init`)";
const AGAIN: &str = "try again in a moment";

pub(crate) const EPERM: i32 = -1;
pub(crate) const ENOENT: i32 = -2;
pub(crate) const ESRCH: i32 = -3;
pub(crate) const EAGAIN: i32 = -11;
pub(crate) const EACCES: i32 = -13;
pub(crate) const EBUSY: i32 = -16;
pub(crate) const EEXIST: i32 = -17;
pub(crate) const EINPROGRESS: i32 = -115;
pub(crate) const ECONNREFUSED: i32 = -111;
const DBLOCK_LVER: i32 = -212;
const DBLOCK_MBAL: i32 = -213;
pub(crate) const ACQUIRE_IDLIVE: i32 = -243;
const ACQUIRE_OWNED: i32 = -244;
const ACQUIRE_OTHER: i32 = -245;
const ACQUIRE_SHRETRY: i32 = -246;

/// A lease that is in somebody's hands for a moment only: it is voted on, given up, or
/// just shared. What it comes to is known when it is asked for again.
const PASSING: [i32; 7] =
    [EAGAIN, EBUSY, DBLOCK_LVER, DBLOCK_MBAL, ACQUIRE_OWNED, ACQUIRE_OTHER, ACQUIRE_SHRETRY];

/// Whether such an answer passes.
pub(crate) fn passes(number: i32) -> bool {
    PASSING.contains(&number)
}

#[rustfmt::skip] // A table.
const TABLE: &[Known] = &[
    known(EPERM, "EPERM", Kind::Denied, "the daemon does not let this process do that", "the process may be restricted: ask in its manager, as root or in the group sanlock"),
    known(ENOENT, "ENOENT", Kind::NotFound, "there is no such file, or no such lockspace", "create the lease, or add its lockspace (`sanlock client add_lockspace`)"),
    known(ESRCH, "ESRCH", Kind::NotFound, "the process is not registered with the daemon", "a guest's process registers itself: acquire in that process, before it executes its command"),
    known(-5, "EIO", Kind::Failed, "the storage failed", STORAGE),
    known(-7, "E2BIG", Kind::Invalid, "too many resources in one call", "take fewer at a time"),
    known(EAGAIN, "EAGAIN", Kind::Held, "the lease is shared by others, or is being given up", STOP_IT),
    known(-12, "ENOMEM", Kind::Failed, "the daemon has no memory left", AGAIN),
    known(EACCES, "EACCES", Kind::Denied, "the daemon, or a lease, may not be used by this user", "be root or in the group sanlock; let the user sanlock write the leases"),
    known(EBUSY, "EBUSY", Kind::Held, "somebody else is just taking it", AGAIN),
    known(EEXIST, "EEXIST", Kind::Held, "another process of this host has the lease", STOP_IT),
    known(-22, "EINVAL", Kind::Invalid, "the daemon does not accept the arguments", "compare host id, lockspace and path with what the daemon has (`sanlock client status`)"),
    known(-28, "ENOSPC", Kind::NotFound, "the lockspace is not there, or is failing", "add the lockspace (`sanlock client add_lockspace`), or look why it fails (`sanlock client status`)"),
    known(-34, "ERANGE", Kind::Invalid, "a lease has no place, or too many", "give it one path"),
    known(-107, "ENOTCONN", Kind::Unreachable, "the daemon broke the connection off", "look whether it runs (`sanlock client status`)"),
    known(-104, "ECONNRESET", Kind::Unreachable, "the daemon broke the connection off", "look whether it runs (`sanlock client status`)"),
    known(-32, "EPIPE", Kind::Unreachable, "the daemon broke the connection off", "look whether it runs (`sanlock client status`)"),
    known(ECONNREFUSED, "ECONNREFUSED", Kind::Unreachable, "the daemon does not listen", "start it (`systemctl start sanlock`)"),
    known(EINPROGRESS, "EINPROGRESS", Kind::Failed, "the lockspace is just being added or removed", AGAIN),
    known(-116, "ESTALE", Kind::NotFound, "the process has ended", "start the guest anew"),
    known(-25, "ENOTTY", Kind::NotFound, "the process ended meanwhile", "start the guest anew"),
    known(-117, "EUCLEAN", Kind::Held, "the lease is an orphan: its process has ended, and wanted it kept", "release it (`sanlock client release`), or add its lockspace anew"),
    known(-201, "SANLK_ERROR", Kind::Failed, "an error without a name", STORAGE),
    known(-202, "SANLK_AIO_TIMEOUT", Kind::Failed, "the storage did not answer in time", STORAGE),
    known(-203, "SANLK_WD_ERROR", Kind::Failed, "the watchdog daemon cannot be used", "start wdmd, or run sanlock without a watchdog (`-w 0`) where nothing can be spoilt"),
    known(-210, "SANLK_DBLOCK_READ", Kind::Failed, "the lease's votes cannot be read", STORAGE),
    known(-211, "SANLK_DBLOCK_WRITE", Kind::Failed, "the lease's votes cannot be written", STORAGE),
    known(DBLOCK_LVER, "SANLK_DBLOCK_LVER", Kind::Held, "another host has won the lease meanwhile", AGAIN),
    known(DBLOCK_MBAL, "SANLK_DBLOCK_MBAL", Kind::Held, "another host votes for the lease at this moment", AGAIN),
    known(-214, "SANLK_DBLOCK_CHECKSUM", Kind::Failed, "a vote's checksum is wrong", DAMAGED),
    known(-220, "SANLK_LEADER_READ", Kind::Failed, "the lease cannot be read", STORAGE),
    known(-221, "SANLK_LEADER_WRITE", Kind::Failed, "the lease cannot be written", STORAGE),
    known(-222, "SANLK_LEADER_DIFF", Kind::Failed, "the lease's copies differ", DAMAGED),
    known(-223, "SANLK_LEADER_MAGIC", Kind::NotFound, "no lease was initialised there", "initialise it (`sanlock direct init`), or correct path and offset"),
    known(-224, "SANLK_LEADER_VERSION", Kind::Failed, "the lease is of another version of sanlock", "use the same major version on all hosts"),
    known(-225, "SANLK_LEADER_SECTORSIZE", Kind::Failed, "the lease was made for another sector size", "initialise it for this storage"),
    known(-226, "SANLK_LEADER_LOCKSPACE", Kind::Invalid, "what lies there is of another lockspace", "correct the lockspace's name, or path and offset"),
    known(-227, "SANLK_LEADER_RESOURCE", Kind::Invalid, "what lies there is a lease of another name", "correct the lease's name, or path and offset"),
    known(-228, "SANLK_LEADER_NUMHOSTS", Kind::Invalid, "the lease is for fewer hosts than this one's id", "use a smaller host id, or initialise the lease for more hosts"),
    known(-229, "SANLK_LEADER_CHECKSUM", Kind::Failed, "the lease's checksum is wrong", DAMAGED),
    known(-230, "SANLK_ADDLS_SIZES", Kind::Invalid, "sector and alignment sizes do not fit each other", "initialise the lockspace with sizes that do (`sanlock direct init -Z -A`)"),
    known(-231, "SANLK_ADDLS_INVALID_HOSTID", Kind::Invalid, "the lockspace has no room for this host id", "use one from 1 to 2000, less for large sectors"),
    known(-240, "SANLK_ACQUIRE_LVER", Kind::Held, "somebody has had the lease meanwhile", "look whether the disk is as the guest left it"),
    known(-241, "SANLK_ACQUIRE_LOCKSPACE", Kind::Invalid, "the lease is of another lockspace", "correct the lockspace's name"),
    known(-242, "SANLK_ACQUIRE_IDDISK", Kind::Failed, "the owner's host id cannot be read from the lockspace", STORAGE),
    known(ACQUIRE_IDLIVE, "SANLK_ACQUIRE_IDLIVE", Kind::Held, "Lease is held by another host", STOP_IT),
    known(ACQUIRE_OWNED, "SANLK_ACQUIRE_OWNED", Kind::Held, "another host took the lease at the same time", AGAIN),
    known(ACQUIRE_OTHER, "SANLK_ACQUIRE_OTHER", Kind::Held, "another host won the vote for the lease", AGAIN),
    known(ACQUIRE_SHRETRY, "SANLK_ACQUIRE_SHRETRY", Kind::Held, "several hosts take the shared lease at the same time", AGAIN),
    known(-247, "SANLK_ACQUIRE_OWNED_RETRY", Kind::Held, "the lease is a host's that has not been seen alive, and has not timed out", "if that host is dead, wait until it has timed out (8 I/O timeouts and a minute); if this one has just joined the lockspace, try again in some seconds"),
    known(-250, "SANLK_RELEASE_LVER", Kind::Lost, "the lease is another version's than was taken", "stop the guest: another host may have had its disk"),
    known(-251, "SANLK_RELEASE_OWNER", Kind::Lost, "the lease is another host's by now", "stop the guest: another host may have had its disk"),
    known(-260, "SANLK_RENEW_OWNER", Kind::Lost, "this host's id was taken by another host", "give each host an id of its own"),
    known(-261, "SANLK_RENEW_DIFF", Kind::Lost, "this host's lease was changed by somebody else", "give each host an id of its own"),
    known(-262, "SANLK_HOSTID_BUSY", Kind::Held, "the host id is used by another host", "give each host an id of its own"),
    known(-270, "SANLK_REQUEST_MAGIC", Kind::Failed, "the lease's request block is none", DAMAGED),
    known(-271, "SANLK_REQUEST_VERSION", Kind::Failed, "the request is of another version of sanlock", "use the same major version on all hosts"),
    known(-272, "SANLK_REQUEST_OLD", Kind::Failed, "the request is out of date", AGAIN),
    known(-273, "SANLK_REQUEST_LVER", Kind::Failed, "a newer request is there", AGAIN),
    known(-274, "SANLK_RINDEX_MAGIC", Kind::NotFound, "no index of leases was initialised there", "format it (`sanlock client format`)"),
    known(-275, "SANLK_RINDEX_VERSION", Kind::Failed, "the index is of another version of sanlock", "use the same major version on all hosts"),
    known(-276, "SANLK_RINDEX_LOCKSPACE", Kind::Invalid, "the index is of another lockspace", "correct the lockspace's name"),
    known(-277, "SANLK_RINDEX_OFFSET", Kind::Invalid, "the index has no such place", "correct the offset"),
    known(-278, "SANLK_RINDEX_DIFF", Kind::Failed, "the index and its lease differ", "rebuild it (`sanlock client rebuild`)"),
];

/// An error of ours for an answer of the daemon's, with name, meaning and hint.
pub(crate) fn error(operation: Operation, what: &str, number: i32) -> Error {
    match TABLE.iter().find(|known| known.number == number) {
        Some(Known { name, kind, meaning, hint, .. }) => {
            Error::new(*kind, NAME, operation, what).with_code(number, *name, *meaning).with_hint(*hint)
        }
        None => {
            let (name, meaning) = if number > -200 {
                ("errno".to_owned(), std::io::Error::from_raw_os_error(-number).to_string())
            } else {
                ("SANLK_?".to_owned(), "a number that this driver does not know".to_owned())
            };
            Error::new(Kind::Failed, NAME, operation, what)
                .with_code(number, name, meaning)
                .with_hint("look into sanlock's log (`sanlock client log_dump`)")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_a_meaning_and_a_hint_and_stands_once() {
        for (at, Known { number, name, meaning, hint, .. }) in TABLE.iter().enumerate() {
            assert!(*number < 0 && !name.is_empty() && !meaning.is_empty() && !hint.is_empty(), "{number}");
            assert!(TABLE[..at].iter().all(|other| other.number != *number), "{number} stands twice");
        }
    }

    #[test]
    fn a_code_is_said_with_name_meaning_and_hint() {
        assert_eq!(
            error(Operation::Acquire, "the lease of lockspace LS is refused", -243).to_string(),
            "lock.sanlock: cannot acquire: the lease of lockspace LS is refused (-243 SANLK_ACQUIRE_IDLIVE: Lease is held \
             by another host); stop the guest that has it, or give it to both in shared mode"
        );
        let unknown = error(Operation::Plug, "it failed", -299).to_string();
        assert!(unknown.contains("(-299 SANLK_?: a number that this driver does not know)"), "{unknown}");
        let system = error(Operation::Plug, "it failed", -27).to_string();
        assert!(system.contains("(-27 errno: File too large"), "{system}");
    }

    /// Where the header is installed, none of its numbers is missing here.
    #[test]
    fn the_table_has_every_number_of_the_header() {
        let Ok(header) = std::fs::read_to_string("/usr/include/sanlock_rv.h") else { return };
        for line in header.lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let ["#define", name, number, ..] = words[..] else { continue };
            let Ok(number) = number.parse::<i32>() else { continue };
            if number < 0 {
                let known = TABLE.iter().find(|known| known.number == number);
                assert_eq!(known.map(|known| known.name), Some(name), "{number}");
            }
        }
    }
}
