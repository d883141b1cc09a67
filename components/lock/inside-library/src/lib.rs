//! `lock.inside`: a driver for tests, as a library.
//!
//! It is `lock.file` with what that has not: it must be asked in the process that becomes
//! the guest, as drivers whose daemon binds locks to who registers; it has a program that
//! stands between manager and guest; and it has no hot-plug.

/// The component.
#[lcr_core::component]
pub mod lock_inside {
    use lcr_core::Handle;
    use lcr_lock::{
        About, Driver, Error, Features, Grant, Guest, Holder, Kind, Opening, Operation, Owned, Owner,
        Program, Request, Resource, Stage, Target,
    };

    const NAME: &str = "lock.inside";

    /// Asks `lock.file`.
    #[derive(lcr_core::Interface)]
    #[interface(name = "lock.inside", version = 3, contract = dyn Driver, requires("lock.file" as dyn Driver))]
    pub struct Inside(Handle<dyn Driver>);

    impl Construct for Inside {
        fn construct(cx: &Context) -> Result<Self, BoxError> {
            Ok(Inside(cx.require("lock.file")?))
        }
    }

    impl Driver for Inside {
        fn about(&self) -> About {
            About {
                interface: NAME.into(),
                version: 3,
                summary: "locks from within the guest's process".into(),
                features: Features {
                    resources: true,
                    hot_plug: false,
                    migrate: true,
                    before_process: false,
                    state: true,
                },
            }
        }

        fn open(&self, guest: &Guest, opening: Opening) -> Result<Owner, Error> {
            self.0.open(guest, opening)
        }

        fn add(&self, owner: Owner, resource: &Resource) -> Result<(), Error> {
            self.0.add(owner, resource)
        }

        fn acquire(&self, owner: Owner, request: &Request) -> Result<Grant, Error> {
            let owned = self.0.owners().into_iter().find(|owned| owned.owner == owner);
            let within = |owned: &Owned| {
                owned.stage != Stage::Described || owned.guest.pid == Some(std::process::id())
            };
            if !owned.as_ref().is_some_and(within) {
                let reason = "this is not the guest's process";
                return Err(Error::new(Kind::Invalid, NAME, Operation::Acquire, reason));
            }
            self.0.acquire(owner, request)
        }

        fn register(&self, owner: Owner, pid: u32) -> Result<String, Error> {
            self.0.register(owner, pid)
        }

        fn release(&self, owner: Owner) -> Result<Option<String>, Error> {
            self.0.release(owner)
        }

        fn inquire(&self, owner: Owner) -> Result<Option<String>, Error> {
            self.0.inquire(owner)
        }

        fn close(&self, owner: Owner) {
            self.0.close(owner);
        }

        fn owners(&self) -> Vec<Owned> {
            self.0.owners()
        }

        fn holders(&self, resource: &Resource) -> Result<Vec<Holder>, Error> {
            self.0.holders(resource)
        }

        fn supervisor(&self, _: Owner) -> Result<Option<Program>, Error> {
            let arguments = vec!["LOCK_INSIDE=supervised".to_owned()];
            Ok(Some(Program { path: "/usr/bin/env".into(), arguments }))
        }

        fn child(&self, owner: Owner) -> Result<u32, Error> {
            self.0.child(owner)
        }

        fn prepare_migrate(&self, owner: Owner, target: &Target) -> Result<Grant, Error> {
            self.0.prepare_migrate(owner, target)
        }

        fn complete_out(&self, owner: Owner) -> Result<(), Error> {
            self.0.complete_out(owner)
        }

        fn cancel_out(&self, owner: Owner) -> Result<(), Error> {
            self.0.cancel_out(owner)
        }

        fn complete_in(&self, owner: Owner, grant: Grant) -> Result<Grant, Error> {
            self.0.complete_in(owner, grant)
        }

        fn cancel_in(&self, owner: Owner) -> Result<(), Error> {
            self.0.cancel_in(owner)
        }
    }
}

lcr_core::library!(crate);
