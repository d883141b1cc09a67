//! Switchboards: the tables through which C code calls what may be replaced.
//!
//! A C component that says how long its table is ([`table`](crate::table)) is not called
//! through that table. Whoever references it gets one of the factory's own, with the same
//! functions in it, and keeps that pointer: at a replacement its entries are changed, one by
//! one, each by one store. A caller reads an entry and calls it; whether it has read the old
//! function or the new one, there is code behind it.
//!
//! ```text
//! SizedHeld ──id──▶ Board ──▶ tables, one for each length that somebody was given
//!     │               └─────▶ the offer that serves
//!     └──▶ Holder ──▶ RawHeld, one for each version that was constructed for it
//! ```
//!
//! Nobody counts these calls, so nobody knows when the last one has left an old version.
//! But a reference that is released is used no more: so each one keeps every version that it
//! may have called, constructed and mapped, until then, or until the program says that
//! nobody is inside ([`Factory::retire`](super::Factory::retire)). One that is replaced back
//! is taken up again, not constructed or mapped a second time.
//!
//! Invariants:
//!
//! * A table stays where it is as long as the program runs: a late call may reach the
//!   new version through it. When a board ends, its tables wait for the next one of
//!   the name.
//! * A board is open, or closed: then a replacement is at work on it, whoever comes waits,
//!   and nobody joins.
//! * No component's code runs under the lock.

use std::borrow::Cow;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::instance::{NotOpened, RawHeld};
use super::offer::Offer;
use super::status::{Stage, Status};
use super::{Holders, Inner, turn};
use crate::error::ReferenceError;
use crate::table::Measured;
use crate::version::Version;

/// A table of ours.
pub(crate) type Entries = &'static [AtomicPtr<c_void>];

/// All of a factory.
#[derive(Default)]
pub(crate) struct Switchboards {
    all: Mutex<All>,
    opened: Condvar,
}

#[derive(Default)]
struct All {
    boards: Vec<Board>,
    last_id: u64,
    /// Tables of boards that have ended, by name.
    spare: Vec<(String, Entries)>,
}

/// One interface, as its C callers have it.
pub(crate) struct Board {
    id: u64,
    name: String,
    serving: Offer,
    /// The version that stood here before the last replacement.
    before: Option<i32>,
    /// The functions of what serves.
    functions: Vec<*const c_void>,
    is_closed: bool,
    tables: Vec<Entries>,
    /// The versions that have served here, and how many functions each had: who asks for
    /// one of them gets a table of that length.
    lengths: Vec<(i32, usize)>,
    holders: Vec<Arc<Holder>>,
}

// SAFETY: its pointers are those of functions.
unsafe impl Send for Board {}

/// One reference.
pub(crate) struct Holder {
    context: Context,
    /// How many functions its table has.
    length: usize,
    is_released: AtomicBool,
    /// The versions that were constructed for it, in that order.
    built: Mutex<Vec<RawHeld>>,
}

/// What the reference gave for the constructors.
struct Context(*mut c_void);

// SAFETY: passed to the component's constructors and destructors alone, which any thread
// may run: `lcr.h` says so of components that describe their tables.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

/// A reference to a table that says how long it is; released when it is dropped.
pub(crate) struct SizedHeld {
    factory: Arc<Inner>,
    board: u64,
    table: Entries,
    holder: Arc<Holder>,
}

impl SizedHeld {
    pub(crate) fn table(&self) -> *const c_void {
        self.table.as_ptr().cast()
    }
}

impl Drop for SizedHeld {
    fn drop(&mut self) {
        self.holder.is_released.store(true, Ordering::Release);
        let ended = self.factory.boards.leave(self.board, &self.holder);
        self.holder.let_go();
        drop(ended);
    }
}

impl Holder {
    fn built(&self) -> MutexGuard<'_, Vec<RawHeld>> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many functions its table has.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn is_released(&self) -> bool {
        self.is_released.load(Ordering::Acquire)
    }

    /// Constructs `offer` for it, unless that was done; says whether it was not. A release
    /// waits meanwhile: the context must not go.
    pub(crate) fn construct(&self, factory: &Arc<Inner>, offer: &Offer) -> Result<bool, ReferenceError> {
        let is_new = {
            let mut built = self.built();
            if self.is_released() || built.iter().any(|held| held.offer().is(offer)) {
                false
            } else {
                let dependencies = factory.dependencies(offer)?;
                let (name, context) = (Cow::Owned(offer.name()), self.context.0);
                // SAFETY: whoever referenced it gave its word for every version that
                // may replace this one.
                built.push(*unsafe {
                    RawHeld::new(factory, offer.clone(), context, dependencies, name, Holders::OfBoard)?
                });
                true
            }
        };
        if self.is_released() {
            // By the constructor itself.
            self.let_go();
        }
        Ok(is_new)
    }

    /// Destroys the versions for which `is_it` holds.
    pub(crate) fn destroy(&self, mut is_it: impl FnMut(&Offer) -> bool) {
        let gone: Vec<_> = self.built().extract_if(.., |held| is_it(held.offer())).collect();
        // The last one first, as they were constructed.
        gone.into_iter().rev().for_each(drop);
    }

    /// How many versions are constructed for it.
    pub(crate) fn versions(&self) -> usize {
        self.built().len()
    }

    /// Destroys all.
    fn let_go(&self) {
        let gone = match self.built.try_lock() {
            Ok(mut built) => std::mem::take(&mut *built),
            // A constructor releases what it is constructed for: it is destroyed afterwards.
            Err(std::sync::TryLockError::WouldBlock) if turn::is_here() => return,
            Err(_) => std::mem::take(&mut *self.built()),
        };
        gone.into_iter().rev().for_each(drop);
    }
}

impl Board {
    fn length_for(&self, wish: Version) -> usize {
        let known = self.lengths.iter().find(|(version, _)| wish.exact && *version == wish.low);
        known.map_or(self.functions.len(), |(_, length)| (*length).min(self.functions.len()))
    }

    /// A table of this length.
    fn table(&mut self, length: usize, spare: &mut Vec<(String, Entries)>) -> Entries {
        if let Some(table) = self.tables.iter().find(|table| table.len() == length) {
            return table;
        }
        let is_it = |(name, table): &(String, Entries)| *name == self.name && table.len() == length;
        let table = match spare.iter().position(is_it) {
            Some(at) => spare.swap_remove(at).1,
            None => Box::leak((0..length).map(|_| AtomicPtr::default()).collect::<Box<[_]>>()),
        };
        set(table, &self.functions);
        self.tables.push(table);
        table
    }
}

/// Puts functions into a table, one by one, as far as it is long.
fn set(table: Entries, functions: &[*const c_void]) {
    for (entry, function) in table.iter().zip(functions) {
        // All that the new version has done before is seen by who calls it.
        entry.store(function.cast_mut(), Ordering::Release);
    }
}

/// A board that a replacement is at work on.
pub(crate) struct Switching {
    id: u64,
    pub(crate) serving: Offer,
    /// How many functions of it somebody may call: the longest table that is held.
    pub(crate) held: usize,
    pub(crate) holders: Vec<Arc<Holder>>,
    /// The longest table.
    pub(crate) table: Entries,
    /// Which of the first `held` functions are there.
    pub(crate) functions: Vec<*const c_void>,
}

/// Boards that are closed; they open again when this is dropped.
pub(crate) struct Closing<'b> {
    boards: &'b Switchboards,
    ids: Vec<u64>,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let ended: Vec<Board> = {
            let mut all = self.boards.lock();
            for board in &mut all.boards {
                board.is_closed &= !self.ids.contains(&board.id);
            }
            all.end()
        };
        self.boards.opened.notify_all();
        drop(ended);
    }
}

impl All {
    /// Takes out the boards that nobody holds. Dropped where no lock is held: each may
    /// have the last use of a library.
    fn end(&mut self) -> Vec<Board> {
        let ended: Vec<Board> =
            self.boards.extract_if(.., |board| !board.is_closed && board.holders.is_empty()).collect();
        for board in &ended {
            self.spare.extend(board.tables.iter().map(|table| (board.name.clone(), *table)));
        }
        ended
    }
}

impl Switchboards {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no board of this name is closed.
    fn open<'a>(
        &'a self,
        mut all: MutexGuard<'a, All>,
        name: &str,
        patience: Duration,
    ) -> Result<MutexGuard<'a, All>, ReferenceError> {
        let began = Instant::now();
        while all.boards.iter().any(|board| board.is_closed && board.name == name) {
            if turn::is_here() {
                let path = vec![name.to_owned(), name.to_owned()];
                return Err(ReferenceError::Reentered { name: name.to_owned(), stage: "replaced", path });
            }
            let Some(left) = patience.checked_sub(began.elapsed()) else {
                let (name, thread) = (name.to_owned(), "one that replaces it".to_owned());
                return Err(ReferenceError::Waited { name, stage: "replaced", thread, patience });
            };
            all = self.opened.wait_timeout(all, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(all)
    }

    fn leave(&self, id: u64, holder: &Arc<Holder>) -> Vec<Board> {
        let mut all = self.lock();
        if let Some(board) = all.boards.iter_mut().find(|board| board.id == id) {
            board.holders.retain(|other| !Arc::ptr_eq(other, holder));
        }
        all.end()
    }

    /// What serves on boards of this name, and what stood there before.
    pub(crate) fn serving(&self, name: &str) -> Vec<(Offer, Option<i32>)> {
        let all = self.lock();
        let of_name = all.boards.iter().filter(|board| board.name == name);
        of_name.map(|board| (board.serving.clone(), board.before)).collect()
    }

    /// What is held of the boards for which `is_it` holds, while they are open.
    pub(crate) fn look(&self, name: &str, is_it: impl Fn(&Offer, Option<i32>) -> bool) -> Vec<Switching> {
        let all = self.lock();
        let of_name = all.boards.iter().filter(|board| board.name == name);
        of_name.filter(|board| is_it(&board.serving, board.before)).map(Board::switching).collect()
    }

    /// Closes the boards of this name for which `is_it` holds.
    pub(crate) fn close(
        &self,
        name: &str,
        is_it: impl Fn(&Offer, Option<i32>) -> bool,
    ) -> (Closing<'_>, Vec<Switching>) {
        let mut all = self.lock();
        let of_name = all.boards.iter_mut().filter(|board| board.name == name);
        let closed = of_name.filter(|board| is_it(&board.serving, board.before)).map(|board| {
            board.is_closed = true;
            board.switching()
        });
        let closed: Vec<Switching> = closed.collect();
        (Closing { boards: self, ids: closed.iter().map(|board| board.id).collect() }, closed)
    }

    /// Runs `f` while nobody can join, unless there is an open board for which `is_news`
    /// holds, by name, what serves, and what stood there before.
    pub(crate) fn settled<R>(
        &self,
        is_news: impl Fn(&str, &Offer, Option<i32>) -> bool,
        f: impl FnOnce() -> R,
    ) -> Option<R> {
        let all = self.lock();
        let mut open = all.boards.iter().filter(|board| !board.is_closed);
        let is_settled = !open.any(|board| is_news(&board.name, &board.serving, board.before));
        is_settled.then(f)
    }

    /// From here on `new` is called, through all tables of the board.
    pub(crate) fn switch(&self, board: &Switching, new: &Offer, functions: &[*const c_void]) {
        let mut all = self.lock();
        let Some(board) = all.boards.iter_mut().find(|other| other.id == board.id) else { return };
        for table in &board.tables {
            set(table, functions);
        }
        board.before = Some(board.serving.version());
        board.serving = new.clone();
        board.functions = functions.to_vec();
        let version = new.version();
        board.lengths.retain(|(other, _)| *other != version);
        board.lengths.push((version, functions.len()));
    }

    /// Who holds a reference to this interface.
    pub(crate) fn holders(&self, name: &str) -> Vec<(Offer, Arc<Holder>)> {
        let all = self.lock();
        let of_name = all.boards.iter().filter(|board| board.name == name);
        of_name.flat_map(|b| b.holders.iter().map(|h| (b.serving.clone(), Arc::clone(h)))).collect()
    }

    pub(super) fn status(&self) -> Vec<Status> {
        let mut boards: Vec<Status> = Vec::new();
        for board in &self.lock().boards {
            let (version, file) =
                (board.serving.version(), board.serving.library().map(|l| l.path().to_owned()));
            let references = board.holders.len();
            match boards.iter_mut().find(|s| s.name == board.name && s.version == version && s.file == file) {
                Some(status) => status.references += references,
                None => boards.push(Status {
                    name: board.name.clone(),
                    version,
                    state: Stage::Live,
                    file,
                    component: board.serving.component().to_owned(),
                    references,
                    calls: None,
                }),
            }
        }
        boards
    }
}

impl Board {
    fn switching(&self) -> Switching {
        let held = self.holders.iter().map(|holder| holder.length).max().unwrap_or(0);
        Switching {
            id: self.id,
            serving: self.serving.clone(),
            held,
            holders: self.holders.clone(),
            table: self.tables.iter().max_by_key(|table| table.len()).copied().unwrap_or_default(),
            functions: self.functions.iter().take(held).copied().collect(),
        }
    }
}

impl Inner {
    /// A reference to `offer`, whose table says how long it is.
    ///
    /// # Errors
    ///
    /// Its construction failed; or it was replaced meanwhile.
    ///
    /// # Safety
    ///
    /// `context` must be what the component expects, and every version that may replace it.
    pub(super) unsafe fn join(
        self: &Arc<Self>,
        offer: &Offer,
        wish: Version,
        context: *mut c_void,
        name: Cow<'static, str>,
    ) -> Result<Box<SizedHeld>, NotOpened> {
        let boards = &self.boards;
        drop(boards.open(boards.lock(), &name, self.construct_wait)?);
        let dependencies = self.dependencies(offer)?;
        // SAFETY: the caller's word.
        let built = unsafe {
            RawHeld::new(self, offer.clone(), context, dependencies, name.clone(), Holders::OfBoard)?
        };
        let mut measured: Option<Measured> = None;
        loop {
            let mut all = boards.open(boards.lock(), &name, self.construct_wait)?;
            let found = all.boards.iter().position(|b| b.name == *name && b.serving.is(offer));
            let at = match (found, measured.take()) {
                (Some(at), _) => at,
                // Asked under the lock: a replacement has it when it makes another one answer.
                (None, _) if !self.lines.is_current(offer) => {
                    drop(all);
                    return Err(NotOpened::Replaced);
                }
                (None, None) => {
                    drop(all);
                    measured = offer.sized()?;
                    serve_anew(offer)?;
                    continue;
                }
                (None, Some(Measured { functions, hooks: _ })) => {
                    all.last_id += 1;
                    let board = Board {
                        id: all.last_id,
                        name: name.clone().into_owned(),
                        serving: offer.clone(),
                        before: None,
                        lengths: vec![(offer.version(), functions.len())],
                        functions,
                        is_closed: false,
                        tables: Vec::new(),
                        holders: Vec::new(),
                    };
                    all.boards.push(board);
                    all.boards.len() - 1
                }
            };
            let All { boards, spare, last_id: _ } = &mut *all;
            let board = &mut boards[at];
            let length = board.length_for(wish);
            let table = board.table(length, spare);
            let holder = Arc::new(Holder {
                context: Context(context),
                length,
                is_released: AtomicBool::new(false),
                built: Mutex::new(vec![*built]),
            });
            board.holders.push(Arc::clone(&holder));
            return Ok(Box::new(SizedHeld { factory: Arc::clone(self), board: board.id, table, holder }));
        }
    }
}

/// Lets a version serve which was told once that another one does: nobody has called it
/// since, and its state is gone with that one's last reference.
fn serve_anew(offer: &Offer) -> Result<(), ReferenceError> {
    static ONE: Mutex<()> = Mutex::new(());
    let Some(description) = offer.description() else { return Ok(()) };
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !description.forwards.load(Ordering::Acquire) {
        return Ok(());
    }
    if let Some(hooks) = offer.sized()?.and_then(|measured| measured.hooks) {
        hooks.pause().map_err(|message| ReferenceError::Construct {
            name: offer.name(),
            version: offer.version(),
            origin: offer.to_string(),
            message: format!("its `pause` failed: {message}"),
            panicked: false,
        })?;
        hooks.resume(None);
    }
    description.forwards.store(false, Ordering::Release);
    Ok(())
}
