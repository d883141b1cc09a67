//! What a lock driver is.
//!
//! A driver is one object in a process, whoever calls it; guests are numbers that it
//! gives out ([`Owner`]). So all that it knows is in one place, and can be handed to
//! a newer driver while guests run.
//!
//! # What holds
//!
//! 1. **A lock dies with the guest's process**, however that ends, without any call:
//!    what [`acquire`](Driver::acquire) grants is inherited by the process, or the
//!    driver watches it. It does not die with the process that called.
//! 2. An owner's resources are those that were added to *it*. An owner with none
//!    acquires and releases nothing: zero never means all.
//! 3. Acquiring what the guest's process holds already succeeds, in whichever process
//!    it was acquired; releasing what it does not hold succeeds. A second process is
//!    a second guest, whatever its name and uuid.
//! 4. All or none: an acquire that fails holds nothing that it did not hold before.
//! 5. A state is bound to its owner. One of another owner is ignored, as none.
//! 6. Nobody waits for a lock: what is held is refused at once, with the holder where
//!    the driver knows.
//! 7. [`close`](Driver::close) forgets a description, and gives up no lock that the
//!    guest's process holds.

use std::os::fd::OwnedFd;

use lcr_core::Abi;

use crate::error::{Error, Holder, Operation};
use crate::grant::{Grant, Opening, Program, Request, Target};
use crate::guest::{Guest, Owner};
use crate::resource::Resource;

/// Keeps two guests from writing one disk. See the [module](self) for what every
/// driver promises, and [`life`](crate::life) for the API above it, which cannot be
/// called in the wrong order.
#[lcr_core::contract]
pub trait Driver: Send + Sync {
    /// What this driver is, and what it does.
    fn about(&self) -> About;

    /// Makes a guest known. What it needs is added next.
    fn open(&self, guest: &Guest, opening: Opening) -> Result<Owner, Error>;

    /// Adds a resource, before [`acquire`](Self::acquire). A driver with whole-guest
    /// leases takes it and locks nothing for it.
    fn add(&self, owner: Owner, resource: &Resource) -> Result<(), Error>;

    /// Takes all that was added, or nothing.
    ///
    /// Called in the process that becomes the guest, or before there is one by the
    /// process that starts it ([`Features::before_process`]), or for a guest that
    /// runs. The grant's descriptors must be inherited by the guest's process; where it
    /// runs already, there are none, and the driver has tied the locks to it.
    fn acquire(&self, owner: Owner, request: &Request) -> Result<Grant, Error>;

    /// Says which process the guest has become: it was not known at
    /// [`acquire`](Self::acquire), and has inherited the grant. Answers the state as
    /// it is from here on, bound to that process.
    fn register(&self, owner: Owner, pid: u32) -> Result<String, Error>;

    /// Gives up all that was added, held or not. Answers the state to acquire it
    /// with again, if the driver has any.
    fn release(&self, owner: Owner) -> Result<Option<String>, Error>;

    /// The state as it is now, if the driver has any. An error of the kind
    /// [`Lost`](crate::Kind::Lost) if the guest's process has not got what it was granted
    /// any more.
    fn inquire(&self, owner: Owner) -> Result<Option<String>, Error>;

    /// Forgets the owner. What its guest holds, its guest keeps. One that is not known
    /// is no error.
    fn close(&self, owner: Owner);

    /// All that are open, and what they have.
    fn owners(&self) -> Vec<Owned>;

    /// Who holds a resource, in whatever mode: empty if nobody.
    fn holders(&self, resource: &Resource) -> Result<Vec<Holder>, Error> {
        Err(Error::unsupported(&self.about().interface, Operation::Holders).on(resource))
    }

    /// The program that has to stand between manager and guest, with the arguments
    /// that go before the guest's own command; none if the driver needs none.
    fn supervisor(&self, owner: Owner) -> Result<Option<Program>, Error> {
        let _ = owner;
        Ok(None)
    }

    /// The guest's process: the one that was named, or the one that a supervisor has
    /// started. An error if it has ended.
    fn child(&self, owner: Owner) -> Result<u32, Error>;

    /// Takes one more resource for a guest that runs, and adds it.
    fn plug(&self, owner: Owner, resource: &Resource) -> Result<(), Error> {
        let _ = owner;
        Err(Error::unsupported(&self.about().interface, Operation::Plug).on(resource))
    }

    /// Gives up one resource of a guest that runs, and removes it.
    fn unplug(&self, owner: Owner, resource: &Resource) -> Result<(), Error> {
        let _ = owner;
        Err(Error::unsupported(&self.about().interface, Operation::Unplug).on(resource))
    }

    /// On the source: makes what the destination takes over. The source holds its
    /// locks on.
    fn prepare_migrate(&self, owner: Owner, target: &Target) -> Result<Grant, Error> {
        let _ = (owner, target);
        Err(Error::unsupported(&self.about().interface, Operation::PrepareMigrate))
    }

    /// On the source, before the destination completes: the guest writes no more
    /// here, and its locks are the other side's.
    fn complete_out(&self, owner: Owner) -> Result<(), Error> {
        let _ = owner;
        Err(Error::unsupported(&self.about().interface, Operation::CompleteMigrate))
    }

    /// On the source, after [`prepare_migrate`](Self::prepare_migrate) or
    /// [`complete_out`](Self::complete_out): the guest stays, with its locks.
    fn cancel_out(&self, owner: Owner) -> Result<(), Error> {
        let _ = owner;
        Err(Error::unsupported(&self.about().interface, Operation::CancelMigrate))
    }

    /// On the destination, for an owner that was opened to
    /// [`Migrate`](Opening::Migrate), and whose process is registered or not: takes
    /// over what the source has prepared. The answer is as that of
    /// [`acquire`](Self::acquire).
    fn complete_in(&self, owner: Owner, grant: Grant) -> Result<Grant, Error> {
        let _ = (owner, grant);
        Err(Error::unsupported(&self.about().interface, Operation::CompleteMigrate))
    }

    /// On the destination: the guest does not come. Nothing is held.
    fn cancel_in(&self, owner: Owner) -> Result<(), Error> {
        let _ = owner;
        Err(Error::unsupported(&self.about().interface, Operation::CancelMigrate))
    }

    /// Duplicates of what holds the owner's locks, where that is descriptors: whoever has
    /// them keeps the locks though the guest's process has ended, for others that the guest
    /// has left behind. None where there are no such, or they are in the guest's process.
    fn descriptors(&self, owner: Owner) -> Result<Vec<OwnedFd>, Error> {
        let _ = owner;
        Ok(Vec::new())
    }
}

/// Implements [`Driver`] for a component whose first field does the work: each method is
/// the field's of that name, but for [`Driver::supervisor`], which has its default.
///
/// Drivers have versions, and versions are components: so they share what they do, and
/// differ in their first lines.
#[macro_export]
macro_rules! forward_driver {
    ($component:ident) => {
        impl $crate::Driver for $component {
            fn about(&self) -> $crate::About {
                self.0.about()
            }
            fn open(
                &self,
                guest: &$crate::Guest,
                opening: $crate::Opening,
            ) -> ::core::result::Result<$crate::Owner, $crate::Error> {
                self.0.open(guest, opening)
            }
            fn add(
                &self,
                owner: $crate::Owner,
                resource: &$crate::Resource,
            ) -> ::core::result::Result<(), $crate::Error> {
                self.0.add(owner, resource)
            }
            fn acquire(
                &self,
                owner: $crate::Owner,
                request: &$crate::Request,
            ) -> ::core::result::Result<$crate::Grant, $crate::Error> {
                self.0.acquire(owner, request)
            }
            fn register(
                &self,
                owner: $crate::Owner,
                pid: u32,
            ) -> ::core::result::Result<::std::string::String, $crate::Error> {
                self.0.register(owner, pid)
            }
            fn release(
                &self,
                owner: $crate::Owner,
            ) -> ::core::result::Result<::core::option::Option<::std::string::String>, $crate::Error> {
                self.0.release(owner)
            }
            fn inquire(
                &self,
                owner: $crate::Owner,
            ) -> ::core::result::Result<::core::option::Option<::std::string::String>, $crate::Error> {
                self.0.inquire(owner)
            }
            fn close(&self, owner: $crate::Owner) {
                self.0.close(owner);
            }
            fn owners(&self) -> ::std::vec::Vec<$crate::Owned> {
                self.0.owners()
            }
            fn holders(
                &self,
                resource: &$crate::Resource,
            ) -> ::core::result::Result<::std::vec::Vec<$crate::Holder>, $crate::Error> {
                self.0.holders(resource)
            }
            fn child(&self, owner: $crate::Owner) -> ::core::result::Result<u32, $crate::Error> {
                self.0.child(owner)
            }
            fn plug(
                &self,
                owner: $crate::Owner,
                resource: &$crate::Resource,
            ) -> ::core::result::Result<(), $crate::Error> {
                self.0.plug(owner, resource)
            }
            fn unplug(
                &self,
                owner: $crate::Owner,
                resource: &$crate::Resource,
            ) -> ::core::result::Result<(), $crate::Error> {
                self.0.unplug(owner, resource)
            }
            fn prepare_migrate(
                &self,
                owner: $crate::Owner,
                target: &$crate::Target,
            ) -> ::core::result::Result<$crate::Grant, $crate::Error> {
                self.0.prepare_migrate(owner, target)
            }
            fn complete_out(&self, owner: $crate::Owner) -> ::core::result::Result<(), $crate::Error> {
                self.0.complete_out(owner)
            }
            fn cancel_out(&self, owner: $crate::Owner) -> ::core::result::Result<(), $crate::Error> {
                self.0.cancel_out(owner)
            }
            fn complete_in(
                &self,
                owner: $crate::Owner,
                grant: $crate::Grant,
            ) -> ::core::result::Result<$crate::Grant, $crate::Error> {
                self.0.complete_in(owner, grant)
            }
            fn cancel_in(&self, owner: $crate::Owner) -> ::core::result::Result<(), $crate::Error> {
                self.0.cancel_in(owner)
            }
            fn descriptors(
                &self,
                owner: $crate::Owner,
            ) -> ::core::result::Result<::std::vec::Vec<::std::os::fd::OwnedFd>, $crate::Error> {
                self.0.descriptors(owner)
            }
        }
    };
}

/// What a driver is.
#[derive(Abi, Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Its interface: `lock.file`.
    pub interface: String,
    /// The interface's version.
    pub version: i32,
    /// What it does, in a sentence.
    pub summary: String,
    /// What can be asked of it.
    pub features: Features,
}

/// What can be asked of a driver.
#[derive(Abi, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each stands for itself")]
pub struct Features {
    /// It locks the resources that are added. If not, it locks the guest as a whole,
    /// or nothing.
    pub resources: bool,
    /// Resources can be added to a guest that runs, and taken from it.
    pub hot_plug: bool,
    /// A guest can move to another host, with its locks.
    pub migrate: bool,
    /// [`Driver::acquire`] can be called before the guest's process exists, by
    /// another one: the grant is inherited. Otherwise it is called in the process
    /// that becomes the guest.
    pub before_process: bool,
    /// There is a state to be kept for a manager that attaches later.
    pub state: bool,
}

/// A guest that is open, and what it has.
#[derive(Abi, Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// The driver's number for it.
    pub owner: Owner,
    /// The guest, with its process if that is known.
    pub guest: Guest,
    /// What was added.
    pub resources: Vec<Resource>,
    /// Where it is in its life.
    pub stage: Stage,
}

/// Where a guest is in its life.
#[derive(Abi, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// It is being described.
    Described,
    /// It has its locks.
    Acquired,
    /// It has given its locks up.
    Released,
    /// It has its locks, and is about to leave for another host.
    Leaving,
    /// It has left, and its locks with it.
    Left,
    /// It is on its way here.
    Arriving,
}
