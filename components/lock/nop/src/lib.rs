//! `lock.nop`: locks nothing, and always works.
//!
//! For machines whose disks nobody else can reach, and for those who want a guest's
//! life without locks. Two guests that write one disk spoil it under this driver, so
//! it must be asked for by name.
//!
//! It keeps all the order of the contract: what is refused here as out of order is
//! refused by every driver.

/// The component.
#[lcr_core::component]
pub mod lock_nop {
    use lcr_lock::book::{Book, Entry};
    use lcr_lock::record::Record;
    use lcr_lock::{
        About, Driver, Error, Features, Grant, Guest, Holder, Kind, Opening, Operation, Owned, Owner,
        Request, Resource, Stage, Target,
    };

    const NAME: &str = "lock.nop";
    const HEAD: &str = "lock.nop/1";

    /// Locks nothing.
    #[derive(lcr_core::Interface)]
    #[interface(name = "lock.nop", version = 1, contract = dyn Driver, state)]
    pub struct Nop(Book<()>);

    impl Construct for Nop {
        fn construct(cx: &Context) -> Result<Self, BoxError> {
            lcr_lock::parameters::only(cx, &[])?;
            Ok(Nop(Book::new(NAME)))
        }
    }

    impl Handover for Nop {
        fn save(&self, state: &mut State) -> Result<(), BoxError> {
            let section = state.section("owners", 1);
            section.write(format!("{HEAD} last={}\n", self.0.last()).as_bytes());
            for record in self.0.each(|owner, entry| entry.record(HEAD, owner)) {
                section.write(format!("{record}\n").as_bytes());
            }
            Ok(())
        }

        fn restore(_: &Context, state: &State) -> Result<Self, BoxError> {
            let book = Book::new(NAME);
            for line in str::from_utf8(state.read("owners", 1..=1)?.bytes())?.lines() {
                let record: Record = line.parse()?;
                book.go_on_from(record.value("last").unwrap_or_default());
                if let Some((owner, entry)) = Entry::of_record(&record, ()) {
                    book.restore(owner, entry);
                }
            }
            Ok(Nop(book))
        }
    }

    impl Nop {
        /// From one stage to another.
        fn step(
            &self,
            owner: Owner,
            operation: Operation,
            from: &[Stage],
            to: Option<Stage>,
        ) -> Result<Grant, Error> {
            self.0.with(owner, operation, |entry| {
                entry.must_be(NAME, operation, from)?;
                entry.stage = to.unwrap_or(entry.stage);
                Ok(Grant::of_state(state(entry)))
            })
        }
    }

    fn state(entry: &Entry<()>) -> String {
        let mut record = Record::new(HEAD);
        record.put_guest(&entry.guest);
        for resource in &entry.resources {
            record.put_resource(resource, &[]);
        }
        record.to_string()
    }

    impl Driver for Nop {
        fn about(&self) -> About {
            About {
                interface: NAME.into(),
                version: 1,
                summary: "locks nothing: two guests that write one disk spoil it".into(),
                features: Features {
                    resources: false,
                    hot_plug: true,
                    migrate: true,
                    before_process: true,
                    state: true,
                },
            }
        }

        fn open(&self, guest: &Guest, opening: Opening) -> Result<Owner, Error> {
            match opening {
                Opening::New => self.0.open(guest, Stage::Described, ()),
                Opening::Migrate => self.0.open(guest, Stage::Arriving, ()),
                Opening::Attach(grant) => {
                    // Another guest's state is worth nothing here.
                    let record = grant.state.parse::<Record>().ok();
                    let of_it = record.filter(|record| record.value("uuid") == Some(guest.uuid));
                    let known = of_it.as_ref().and_then(Record::guest);
                    let guest =
                        Guest { pid: guest.pid.or(known.and_then(|known| known.pid)), ..guest.clone() };
                    let owner = self.0.open(&guest, Stage::Acquired, ())?;
                    self.0.with(owner, Operation::Open, |entry| {
                        entry.resources = of_it.iter().flat_map(Record::resources).map(|(r, _)| r).collect();
                        Ok(owner)
                    })
                }
            }
        }

        fn add(&self, owner: Owner, resource: &Resource) -> Result<(), Error> {
            self.0.add(owner, resource)
        }

        fn acquire(&self, owner: Owner, request: &Request) -> Result<Grant, Error> {
            request.has_no_failure_action(NAME)?;
            let from = [Stage::Described, Stage::Acquired, Stage::Released];
            let to = (!request.register_only).then_some(Stage::Acquired);
            self.step(owner, Operation::Acquire, &from, to)
        }

        fn register(&self, owner: Owner, pid: u32) -> Result<String, Error> {
            self.0.with(owner, Operation::Register, |entry| {
                entry.must_be(NAME, Operation::Register, &[Stage::Acquired, Stage::Arriving])?;
                entry.guest.pid = Some(pid);
                Ok(state(entry))
            })
        }

        fn release(&self, owner: Owner) -> Result<Option<String>, Error> {
            let from = [Stage::Described, Stage::Acquired, Stage::Released];
            self.step(owner, Operation::Release, &from, Some(Stage::Released)).map(|grant| Some(grant.state))
        }

        fn inquire(&self, owner: Owner) -> Result<Option<String>, Error> {
            self.0.with(owner, Operation::Inquire, |entry| Ok(Some(state(entry))))
        }

        fn close(&self, owner: Owner) {
            self.0.close(owner);
        }

        fn owners(&self) -> Vec<Owned> {
            self.0.owners()
        }

        fn holders(&self, _: &Resource) -> Result<Vec<Holder>, Error> {
            Ok(Vec::new())
        }

        fn child(&self, owner: Owner) -> Result<u32, Error> {
            self.0.with(owner, Operation::Child, |entry| {
                let name = &entry.guest.name;
                let pid = entry.guest.pid.ok_or_else(|| {
                    Error::new(Kind::NotFound, NAME, Operation::Child, format!("guest {name} has no process"))
                        .with_hint("name it when the guest is opened, or register it")
                })?;
                if std::path::Path::new("/proc").join(pid.to_string()).exists() {
                    Ok(pid)
                } else {
                    let reason = format!("process {pid} of guest {name} has ended");
                    Err(Error::new(Kind::NotFound, NAME, Operation::Child, reason))
                }
            })
        }

        fn plug(&self, owner: Owner, resource: &Resource) -> Result<(), Error> {
            self.0.with(owner, Operation::Plug, |entry| {
                entry.must_be(NAME, Operation::Plug, &[Stage::Acquired])?;
                entry.put(NAME, Operation::Plug, resource)
            })
        }

        fn unplug(&self, owner: Owner, resource: &Resource) -> Result<(), Error> {
            self.0.with(owner, Operation::Unplug, |entry| {
                entry.must_be(NAME, Operation::Unplug, &[Stage::Acquired])?;
                entry.resources.retain(|other| !other.is_same(resource));
                Ok(())
            })
        }

        fn prepare_migrate(&self, owner: Owner, _: &Target) -> Result<Grant, Error> {
            self.step(owner, Operation::PrepareMigrate, &[Stage::Acquired], Some(Stage::Leaving))
        }

        fn complete_out(&self, owner: Owner) -> Result<(), Error> {
            self.step(owner, Operation::CompleteMigrate, &[Stage::Leaving], Some(Stage::Left)).map(drop)
        }

        fn cancel_out(&self, owner: Owner) -> Result<(), Error> {
            let from = [Stage::Leaving, Stage::Left];
            self.step(owner, Operation::CancelMigrate, &from, Some(Stage::Acquired)).map(drop)
        }

        fn complete_in(&self, owner: Owner, _: Grant) -> Result<Grant, Error> {
            self.step(owner, Operation::CompleteMigrate, &[Stage::Arriving], Some(Stage::Acquired))
        }

        fn cancel_in(&self, owner: Owner) -> Result<(), Error> {
            self.step(owner, Operation::CancelMigrate, &[Stage::Arriving], Some(Stage::Released)).map(drop)
        }
    }
}
