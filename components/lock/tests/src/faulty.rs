//! `lock.faulty`: does what `lock.nop` does, but for the steps that a guest's name says
//! are to fail: `web, no release, no child`.

/// The component.
#[lcr_core::component]
pub mod lock_faulty {
    use lcr_core::Handle;
    use lcr_lock::{
        About, Driver, Error, Grant, Guest, Kind, Opening, Operation, Owned, Owner, Request, Resource, Target,
    };

    /// Fails on demand.
    #[derive(lcr_core::Interface)]
    #[interface(name = "lock.faulty", version = 1, contract = dyn Driver, requires("lock.nop" as dyn Driver))]
    pub struct Faulty(Handle<dyn Driver>);

    impl Construct for Faulty {
        fn construct(cx: &Context) -> Result<Self, BoxError> {
            Ok(Faulty(cx.require("lock.nop")?))
        }
    }

    impl Faulty {
        fn may(&self, owner: Owner, operation: Operation, word: &str) -> Result<(), Error> {
            let owned = self.0.owners().into_iter().find(|owned| owned.owner == owner);
            if owned.is_some_and(|owned| owned.guest.name.contains(&format!("no {word}"))) {
                Err(Error::new(Kind::Failed, "lock.faulty", operation, "it was told to fail"))
            } else {
                Ok(())
            }
        }
    }

    impl Driver for Faulty {
        fn about(&self) -> About {
            About { interface: "lock.faulty".into(), ..self.0.about() }
        }

        fn open(&self, guest: &Guest, opening: Opening) -> Result<Owner, Error> {
            self.0.open(guest, opening)
        }

        fn add(&self, owner: Owner, resource: &Resource) -> Result<(), Error> {
            self.0.add(owner, resource)
        }

        fn acquire(&self, owner: Owner, request: &Request) -> Result<Grant, Error> {
            self.0.acquire(owner, request)
        }

        fn register(&self, owner: Owner, pid: u32) -> Result<String, Error> {
            self.may(owner, Operation::Register, "register")?;
            self.0.register(owner, pid)
        }

        fn release(&self, owner: Owner) -> Result<Option<String>, Error> {
            self.may(owner, Operation::Release, "release")?;
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

        fn child(&self, owner: Owner) -> Result<u32, Error> {
            self.may(owner, Operation::Child, "child")?;
            self.0.child(owner)
        }

        fn plug(&self, owner: Owner, resource: &Resource) -> Result<(), Error> {
            self.0.plug(owner, resource)
        }

        fn unplug(&self, owner: Owner, resource: &Resource) -> Result<(), Error> {
            self.may(owner, Operation::Unplug, "unplug")?;
            self.0.unplug(owner, resource)
        }

        fn prepare_migrate(&self, owner: Owner, target: &Target) -> Result<Grant, Error> {
            self.may(owner, Operation::PrepareMigrate, "prepare")?;
            self.0.prepare_migrate(owner, target)
        }

        fn complete_out(&self, owner: Owner) -> Result<(), Error> {
            self.may(owner, Operation::CompleteMigrate, "complete_out")?;
            self.0.complete_out(owner)
        }

        fn cancel_out(&self, owner: Owner) -> Result<(), Error> {
            self.0.cancel_out(owner)
        }

        fn complete_in(&self, owner: Owner, grant: Grant) -> Result<Grant, Error> {
            self.may(owner, Operation::CompleteMigrate, "complete_in")?;
            self.0.complete_in(owner, grant)
        }

        fn cancel_in(&self, owner: Owner) -> Result<(), Error> {
            self.0.cancel_in(owner)
        }
    }
}
