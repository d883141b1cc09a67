//! `lock.whole`: one lease for a guest, and none for its disks; neither hot-plug nor
//! migration.
//!
//! The first design allows for such drivers: they may ignore resource paths, and answer
//! what they do not do with an error. It is made of `lock.file`, which locks a file that
//! is named after the guest.

/// The component.
#[lcr_core::component]
pub mod lock_whole {
    use std::collections::HashMap;
    use std::path::PathBuf;
    use std::sync::{Mutex, PoisonError};

    use lcr_core::Handle;
    use lcr_lock::{
        About, Driver, Error, Features, Grant, Guest, Mode, Opening, Operation, Owned, Owner, Request,
        Resource,
    };

    /// Locks guests.
    #[derive(lcr_core::Interface)]
    #[interface(name = "lock.whole", version = 1, contract = dyn Driver, requires("lock.file" as dyn Driver))]
    pub struct Whole {
        file: Handle<dyn Driver>,
        directory: PathBuf,
        /// Has the guest been given its locks?
        acquired: Mutex<HashMap<Owner, bool>>,
    }

    impl Construct for Whole {
        fn construct(cx: &Context) -> Result<Self, BoxError> {
            let directory = PathBuf::from(cx.text("directory")?);
            Ok(Whole { file: cx.require("lock.file")?, directory, acquired: Mutex::default() })
        }
    }

    impl Whole {
        fn note(&self, owner: Owner, acquired: bool) {
            self.acquired.lock().unwrap_or_else(PoisonError::into_inner).insert(owner, acquired);
        }
    }

    impl Driver for Whole {
        fn about(&self) -> About {
            About {
                interface: "lock.whole".into(),
                version: 1,
                summary: "locks guests as a whole: one guest runs once".into(),
                features: Features {
                    resources: false,
                    hot_plug: false,
                    migrate: false,
                    before_process: true,
                    state: true,
                },
            }
        }

        fn open(&self, guest: &Guest, opening: Opening) -> Result<Owner, Error> {
            let attached = matches!(opening, Opening::Attach(_));
            let owner = self.file.open(guest, opening)?;
            self.note(owner, attached);
            if !attached {
                let lease = self.directory.join(guest.uuid.to_string());
                std::fs::write(&lease, b"").map_err(|error| {
                    Error::of_system(
                        "lock.whole",
                        Operation::Open,
                        "the guest's lease cannot be made",
                        &error,
                    )
                })?;
                self.file.add(owner, &Resource::disk(lease, Mode::Exclusive))?;
            }
            Ok(owner)
        }

        fn add(&self, owner: Owner, resource: &Resource) -> Result<(), Error> {
            let known = self.acquired.lock().unwrap_or_else(PoisonError::into_inner).get(&owner).copied();
            match known {
                Some(false) => Ok(()),
                Some(true) => {
                    Err(Error::out_of_order("lock.whole", Operation::Add, "the guest has its locks")
                        .on(resource))
                }
                None => Err(Error::no_owner("lock.whole", Operation::Add, owner)),
            }
        }

        fn acquire(&self, owner: Owner, request: &Request) -> Result<Grant, Error> {
            let grant = self.file.acquire(owner, request)?;
            self.note(owner, true);
            Ok(grant)
        }

        fn register(&self, owner: Owner, pid: u32) -> Result<String, Error> {
            self.file.register(owner, pid)
        }

        fn release(&self, owner: Owner) -> Result<Option<String>, Error> {
            self.file.release(owner)
        }

        fn inquire(&self, owner: Owner) -> Result<Option<String>, Error> {
            self.file.inquire(owner)
        }

        fn close(&self, owner: Owner) {
            self.acquired.lock().unwrap_or_else(PoisonError::into_inner).remove(&owner);
            self.file.close(owner);
        }

        fn owners(&self) -> Vec<Owned> {
            self.file.owners()
        }

        fn child(&self, owner: Owner) -> Result<u32, Error> {
            self.file.child(owner)
        }
    }
}
