//! The component, by version: versions differ in this line, and share all the rest.

/// `lock.file` in a version, which replaces others.
macro_rules! lock_file {
    ($(#[$doc:meta])* $module:ident, $version:literal, [$($replaces:literal),*]) => {
        $(#[$doc])*
        #[lcr_core::component]
        pub mod $module {
            use std::path::PathBuf;

            use lcr_lock::Driver;

            use crate::locks::Locks;

            /// Locks files.
            #[derive(lcr_core::Interface)]
            #[interface(
                name = "lock.file", version = $version, replaces($($replaces),*), contract = dyn Driver, state
            )]
            pub struct File(Locks);

            impl Construct for File {
                fn construct(cx: &Context) -> Result<Self, BoxError> {
                    lcr_lock::parameters::only(cx, &["directory"])?;
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

            lcr_lock::forward_driver!(File);
        }
    };
}
