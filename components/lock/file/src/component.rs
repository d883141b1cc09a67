//! The component, by version: versions differ in this line, and share all the rest.

/// `lock.file` in a version, which replaces others.
macro_rules! lock_file {
    ($(#[$doc:meta])* $module:ident, $version:literal, [$($replaces:literal),*]) => {
        $(#[$doc])*
        #[lcr_core::component]
        pub mod $module {
            use std::path::PathBuf;

            use lcr_lock::{
                About, Driver, Error, Grant, Guest, Holder, Opening, Owned, Owner, Request, Resource, Target,
            };

            use crate::locks::Locks;

            /// Locks files.
            #[derive(lcr_core::Interface)]
            #[interface(
                name = "lock.file", version = $version, replaces($($replaces),*), contract = dyn Driver, state
            )]
            pub struct File(Locks);

            impl Construct for File {
                fn construct(cx: &Context) -> Result<Self, BoxError> {
                    let directory = match cx.get("directory") {
                        None => None,
                        Some(_) => Some(PathBuf::from(cx.text("directory")?)),
                    };
                    Ok(File(Locks::new($version, directory)?))
                }
            }

            impl Handover for File {
                fn pause(&self) -> Result<(), BoxError> {
                    self.0.pause();
                    Ok(())
                }

                fn resume(&self) {
                    self.0.resume();
                }

                fn save(&self, state: &mut State) -> Result<(), BoxError> {
                    self.0.save(state)
                }

                fn restore(_: &Context, state: &State) -> Result<Self, BoxError> {
                    Ok(File(Locks::restore($version, state)?))
                }
            }

            impl Driver for File {
                fn about(&self) -> About {
                    self.0.about()
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

                fn child(&self, owner: Owner) -> Result<u32, Error> {
                    self.0.child(owner)
                }

                fn plug(&self, owner: Owner, resource: &Resource) -> Result<(), Error> {
                    self.0.plug(owner, resource)
                }

                fn unplug(&self, owner: Owner, resource: &Resource) -> Result<(), Error> {
                    self.0.unplug(owner, resource)
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
    };
}
