//! `lock.sanlock`: leases of the sanlock daemon, for hosts that share storage.
//!
//! sanlock keeps leases on the shared storage itself: no network and no cluster is needed
//! to know who has a disk. A host joins a *lockspace* with a number of its own, and renews
//! its place there all the time; a *lease* of the lockspace is one host's, or is shared by
//! several. When a host cannot renew, its daemon kills the processes that have leases, and
//! its watchdog resets it if they do not end: so others know after a known time that
//! nobody writes any more.
//!
//! This driver reaches the daemon through libsanlock_client, 1.8 or later, which is opened
//! when the driver is first referenced. The daemon does all I/O.
//!
//! # Parameters
//!
//! | parameter | |
//! |---|---|
//! | `directory` | where the leases of disks are, on storage that all hosts share; made as they are needed, as are the lockspace's own file and notes of who has what. Without it there are no leases of disks |
//! | `host_id` | this host's number in the lockspace, from 1 to 2000, another one on each host. With it the driver joins the lockspace at its start; without, that was done before |
//! | `lockspace` | the lockspace of disks, `__LIBVIRT__DISKS__` if not given: the one of libvirt's sanlock plugin |
//! | `io_timeout` | seconds that an I/O of sanlock's may take, the daemon's 10 if not given: all times of sanlock are multiples of it |
//! | `disks` | `lease`, or `ignore`: disks are not locked, only leases that are added |
//! | `handler` | the program `lcr-lock-failure`, for guests whose leases are lost (below) |
//! | `client` | the client library, if not `libsanlock_client.so.1` |
//!
//! Joining takes as long as it takes to be sure that nobody else has the number: twice the
//! I/O timeout and a second, so 21 seconds if that is not set.
//!
//! # In the guest's process
//!
//! A lease is tied to a process that has registered itself, and ends when the last copy of
//! its connection is closed: so a guest's process acquires for itself, and then executes
//! its command ([`Acquired::exec`](lcr_lock::life::Acquired::exec)). Its manager
//! attaches with the state; it plugs, releases and acquires again by the process' number.
//!
//! A disk that is read or shared has a shared lease; exclusive ones get on with none. A
//! lease that is in another's hands for a moment only is asked for again for half a
//! second. Hosts that take a shared lease at once vote on it, for up to some seconds: so
//! long it is asked for again, unless a guest has noted that it has the lease alone.
//! Nobody waits for a host to time out.
//!
//! # When a lease is lost
//!
//! The daemon kills the guest's process: SIGTERM, and then SIGKILL. A request may name a
//! [program](lcr_lock::Request::handler) to be run instead; the guest is then killed only
//! if it still has its leases 40 seconds later. With the parameter `handler` and a
//! [failure action](lcr_lock::Request::on_failure) but no program, the daemon runs
//! `lcr-lock-failure ACTION PID`, which suits guests that are plain processes: `poweroff`
//! and `restart` send it SIGTERM (starting it again is for whoever sees it end), `pause`
//! stops it and gives its leases up, and `ignore` gives them up and lets it write on.
//! Without any program, `poweroff` is what the daemon does, and the others are refused.
//! All this is told to the daemon when the process registers, and not changed later.
//!
//! A daemon that is killed does nothing more for anybody: the guest runs on without
//! protection until the watchdog resets the host, [`inquire`](lcr_lock::Driver::inquire)
//! says so, and other hosts get the lease when this one's has timed out (8 I/O timeouts
//! and the watchdog's minute).
//!
//! # What it cannot do
//!
//! * A migration leaves a gap between the source's completion and the destination's, in
//!   which another guest may get the disk: a lease cannot pass from process to process.
//! * A holder's guest is named by the notes in `directory`; without them, or where another
//!   program holds the lease, only its host is known.

mod client;
mod code;
mod leases;
mod note;
mod place;
mod process;
mod sys;

/// The interface.
const NAME: &str = "lock.sanlock";

/// Gives up all leases of a process, which is registered: for the program
/// `lcr-lock-failure`. `client` is the client library, the usual one if none.
///
/// # Errors
///
/// What could not be given up, and why, as a text.
pub fn give_up(client: Option<&std::path::Path>, pid: u32) -> Result<(), String> {
    let client = client.map_or(std::ffi::OsStr::new(client::USUAL), std::path::Path::as_os_str);
    let client = client::Client::open(client)?;
    let failed = |what: &str, number| {
        code::error(lcr_lock::Operation::Release, &format!("{what} of process {pid}"), number).to_string()
    };
    // Its manager may be asking for it at this moment.
    let held = leases::patiently(|| client.inquire(pid), leases::is_busy);
    for lease in held.map_err(|number| failed("leases", number))? {
        leases::patiently(|| client.release(pid, &lease), leases::is_busy)
            .map_err(|number| failed(&lease.name, number))?;
    }
    Ok(())
}

/// The component.
#[lcr_core::component]
pub mod lock_sanlock {
    use lcr_lock::Driver;

    use crate::leases::Leases;

    /// Takes leases.
    #[derive(lcr_core::Interface)]
    #[interface(name = "lock.sanlock", version = 1, contract = dyn Driver, state)]
    pub struct Sanlock(Leases);

    impl Construct for Sanlock {
        fn construct(cx: &Context) -> Result<Self, BoxError> {
            Ok(Sanlock(Leases::construct(cx)?))
        }
    }

    impl Handover for Sanlock {
        fn resume(&self) {
            self.0.resume();
        }

        fn save(&self, state: &mut State) -> Result<(), BoxError> {
            self.0.save(state)
        }

        fn restore(_: &Context, state: &State) -> Result<Self, BoxError> {
            Ok(Sanlock(Leases::restore(state)?))
        }
    }

    lcr_lock::forward_driver!(Sanlock);
}
