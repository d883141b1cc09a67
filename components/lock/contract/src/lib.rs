//! A lock manager for virtual machines: it keeps two guests from writing one disk.
//!
//! A *driver* knows how to lock: with locks of the file system (`lock.file`), through
//! the sanlock daemon (`lock.sanlock`), or not at all (`lock.nop`). Each is an lcr
//! component that implements the contract [`Driver`], and so is found by name,
//! compiled in or loaded, and replaced while guests run.
//!
//! # Where it comes from
//!
//! libvirt's lock manager has two designs. The first one (2010) was a life-cycle for
//! plugins: describe a guest, register its disks, acquire, run, plug and unplug,
//! migrate, shut down. What libvirt shipped is a smaller table, `virLockDriver`, of
//! eight functions on an object that lives for one operation. This contract serves
//! both: its owner is an object as the first design's, and every operation of the
//! second is a short life of one.
//!
//! | here | the first design | `virLockDriver` |
//! |---|---|---|
//! | the reference to the interface; [`Construct`](lcr_core::Construct) | plugin load, unload | `drvInit`, `drvDeinit` |
//! | [`Driver::open`] | `New`, with `NEW_ATTACH`, `NEW_MIGRATE`; `SetParameter` | `drvNew` with its parameters |
//! | [`Driver::add`] | `RegisterResource` | `drvAddResource` |
//! | [`Driver::acquire`] | `AcquireObject` | `drvAcquire`; its `fd` is in [`Grant::descriptors`] |
//! | [`Driver::register`] | the process is the supervisor's child | parameter `pid` |
//! | [`Driver::release`] | `Shutdown` | `drvRelease` |
//! | [`Driver::inquire`] | | `drvInquire` |
//! | [`Driver::close`] | `Free` | `drvFree` |
//! | [`Driver::child`] | `GetChild` | |
//! | [`Driver::supervisor`] | `GetSupervisorPath`, `GetSupervisorArgs` | |
//! | [`Driver::plug`], [`Driver::unplug`] | `AcquireResource`, `ReleaseResource` | `drvNew`, `drvAddResource`, then `drvAcquire` or `drvRelease` |
//! | [`Driver::prepare_migrate`] | `PrepareMigrate` | `drvInquire` on the source |
//! | [`Driver::complete_out`], [`Driver::complete_in`] | `CompleteMigrateOut`, `CompleteMigrateIn` | `drvRelease` on the source, `drvAcquire` with its state on the destination |
//! | [`Driver::cancel_out`], [`Driver::cancel_in`] | the same with `CANCEL` | `drvAcquire` on the source again |
//!
//! [`life`] is the API above it, in which the sequences of the first design are
//! documents that are tests, and what is out of order does not compile. [`book`],
//! [`parameters`] and [`record`] are what drivers are made with.
//!
//! What both leave open is said here: in which process a lock is taken, what ties it
//! to the guest, what a state may be used for. See [`driver`].

pub mod book;
pub mod driver;
pub mod error;
pub mod grant;
pub mod guest;
mod inherit;
pub mod life;
pub mod parameters;
pub mod process;
pub mod record;
pub mod resource;

pub use driver::{About, Driver, Features, Owned, Stage};
pub use error::{Code, Error, Holder, Kind, Operation};
pub use grant::{Grant, OnFailure, Opening, Program, Request, Target};
pub use guest::{Guest, Owner, Uuid};
pub use resource::{Disk, Lease, Mode, Resource};
