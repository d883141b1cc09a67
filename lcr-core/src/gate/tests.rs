//! What one thread, or two, can show of the gate. Under Miri, which has neither
//! `membarrier` nor the fast way, with fences:
//!
//! ```sh
//! MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-permissive-provenance -Zmiri-ignore-leaks" \
//!     cargo +nightly miri test -p lcr-core --lib gate
//! ```

use std::ptr;
use std::sync::atomic::AtomicI32;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// A gate with instances behind it, one after the other.
struct Fixture {
    gate: &'static GateHead,
    instances: Vec<&'static InstanceHead>,
}

impl Fixture {
    fn new(name: &'static str) -> Self {
        let gate: &'static GateHead = Box::leak(Box::new(GateHead::new(name)));
        let instances = (1..4usize)
            .map(|object| {
                // SAFETY: the gate is leaked.
                let head =
                    unsafe { InstanceHead::new(ptr::without_provenance(object), ptr::null(), 0, gate) };
                &*Box::leak(Box::new(head))
            })
            .collect::<Vec<_>>();
        // SAFETY: leaked; the fixture's owner alone replaces.
        unsafe { gate.open(instances[0]) };
        Fixture { gate, instances }
    }

    fn swap(&self, to: usize) {
        // SAFETY: leaked; one thread replaces.
        unsafe { self.gate.swap(self.instances[to]) }.unwrap();
    }
}

fn which(entered: &InstanceHead) -> usize {
    entered.object.addr() - 1
}

/// Holds are one at a time in a process.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn is_quiet(instance: &InstanceHead) -> bool {
    wait_quiet(&[instance], Pins::Ignore, Some(Instant::now())).is_ok()
}

#[test]
fn a_call_reaches_what_was_swapped_in() {
    let f = Fixture::new("swapped");
    assert_eq!(which(&f.gate.enter()), 0);
    f.swap(1);
    assert_eq!(which(&f.gate.enter()), 1);
    assert!(is_quiet(f.instances[0]));
}

#[test]
fn who_is_inside_is_waited_for_and_named() {
    let f = Fixture::new("entered");
    let (inside, is_inside) = mpsc::channel();
    let (leave, may_leave) = mpsc::channel::<()>();
    let gate = f.gate;
    let caller = thread::Builder::new()
        .name("caller".into())
        .spawn(move || {
            let entered = gate.enter();
            inside.send(()).unwrap();
            may_leave.recv().unwrap();
            which(&entered)
        })
        .unwrap();
    is_inside.recv().unwrap();
    f.swap(1);
    let deadline = Instant::now() + Duration::from_millis(20);
    let stuck = match wait_quiet(&[f.instances[0]], Pins::Ignore, Some(deadline)) {
        Err(NotQuiet::Deadline(stuck)) => stuck,
        other => panic!("a caller was inside, but: {other:?}"),
    };
    assert!(Instant::now() >= deadline);
    let [stuck] = &stuck[..] else { panic!("{stuck:?}") };
    assert_eq!(stuck.interface, "entered");
    assert!(!stuck.gone);
    if cfg!(not(miri)) {
        assert_eq!(stuck.thread, "caller");
        assert!(stuck.age >= Duration::from_millis(19), "{stuck}");
    }
    leave.send(()).unwrap();
    wait_quiet(&[f.instances[0]], Pins::Ignore, None).unwrap();
    assert_eq!(caller.join().unwrap(), 0);
}

#[test]
fn guards_nest_deeper_than_a_block_and_drop_in_any_order() {
    let (a, b) = (Fixture::new("a"), Fixture::new("b"));
    let mut guards: Vec<_> =
        (0..40).map(|i| if i % 2 == 0 { a.gate.enter() } else { b.gate.enter() }).collect();
    a.swap(1);
    b.swap(1);
    while guards.len() > 1 {
        guards.swap_remove(guards.len() / 3);
        let left = guards.iter().filter(|g| ptr::eq(&raw const ***g, a.instances[0])).count();
        assert_eq!(is_quiet(a.instances[0]), left == 0);
        assert_eq!(a.instances[0].inside(), left != 0);
        assert_eq!(is_quiet(b.instances[0]), left == guards.len());
    }
    guards.clear();
    assert!(is_quiet(a.instances[0]) && is_quiet(b.instances[0]));
}

#[test]
fn a_requester_inside_its_own_target_is_known() {
    let _alone = alone();
    let f = Fixture::new("own target");
    assert!(!f.instances[0].inside());
    let entered = f.gate.enter();
    assert!(entered.inside());
    // SAFETY: nothing else replaces.
    let refused = unsafe { Hold::begin(&[f.gate]) };
    assert!(matches!(refused, Err(HoldRefused::Inside("own target"))), "{refused:?}");
    assert!(!f.gate.is_held());
    drop(entered);
    // SAFETY: nothing else replaces.
    drop(unsafe { Hold::begin(&[f.gate]) }.unwrap());
}

#[test]
fn held_callers_wait_and_reach_the_new_one() {
    let _alone = alone();
    let f = Fixture::new("held");
    // SAFETY: nothing else replaces.
    let hold = unsafe { Hold::begin(&[f.gate]) }.unwrap();
    hold.wait_quiet(None).unwrap();
    let gate = f.gate;
    let callers: Vec<_> = (0..3).map(|_| thread::spawn(move || which(&gate.enter()))).collect();
    while hold.held_calls() < 3 {
        thread::yield_now();
    }
    // SAFETY: quiet; leaked.
    let opened = unsafe { hold.open_with(&[f.instances[1]]) };
    assert_eq!(opened.held_calls, 3);
    assert!(ptr::eq(opened.old[0], f.instances[0]));
    assert!(callers.into_iter().all(|c| c.join().unwrap() == 1));
    wait_quiet(&[f.instances[0]], Pins::Count, None).unwrap();
}

#[test]
fn a_dropped_hold_lets_callers_through_on_the_old_one() {
    let _alone = alone();
    let f = Fixture::new("put back");
    // SAFETY: nothing else replaces.
    let hold = unsafe { Hold::begin(&[f.gate]) }.unwrap();
    // SAFETY: refused.
    let second = unsafe { Hold::begin(&[f.gate]) };
    assert!(matches!(second, Err(HoldRefused::Busy)), "{second:?}");
    let gate = f.gate;
    let caller = thread::spawn(move || which(&gate.enter()));
    while hold.held_calls() < 1 {
        thread::yield_now();
    }
    drop(hold);
    assert_eq!(caller.join().unwrap(), 0);
    assert_eq!(which(&f.gate.enter()), 0);
}

#[test]
fn a_thread_inside_the_transaction_passes_its_gates() {
    let _alone = alone();
    let (a, b) = (Fixture::new("outer"), Fixture::new("inner"));
    let (inside, is_inside) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let (outer, inner) = (a.gate, b.gate);
    let caller = thread::spawn(move || {
        let entered = outer.enter();
        inside.send(()).unwrap();
        may_go.recv().unwrap();
        let nested = inner.enter();
        let again = inner.enter();
        drop(entered);
        (which(&nested), which(&again))
    });
    is_inside.recv().unwrap();
    // SAFETY: nothing else replaces.
    let hold = unsafe { Hold::begin(&[outer, inner]) }.unwrap();
    let early = hold.wait_quiet(Some(Instant::now()));
    assert!(matches!(early, Err(NotQuiet::Deadline(_))), "{early:?}");
    go.send(()).unwrap();
    hold.wait_quiet(None).unwrap();
    assert_eq!(caller.join().unwrap(), (0, 0));
    assert_eq!(hold.held_calls(), 0);
}

#[test]
fn pinned_instances_count_for_a_drain_that_asks() {
    let _alone = alone();
    let f = Fixture::new("pinned");
    f.gate.enter().pin();
    // SAFETY: nothing else replaces.
    let hold = unsafe { Hold::begin(&[f.gate]) }.unwrap();
    let stuck = hold.wait_quiet(Some(Instant::now())).unwrap_err();
    assert!(stuck.to_string().contains("1 pinned instance in `pinned`"), "{stuck}");
    assert!(is_quiet(f.instances[0]));
    // SAFETY: the pin that was made above.
    assert!(unsafe { f.instances[0].unpin() });
    hold.wait_quiet(Some(Instant::now())).unwrap();
}

#[test]
fn a_worker_that_calls_what_it_holds_is_refused_at_once() {
    let _alone = alone();
    let (held, free) = (Fixture::new("held by me"), Fixture::new("not held"));
    // SAFETY: nothing else replaces.
    let hold = unsafe { Hold::begin(&[held.gate]) }.unwrap();
    let worker = hold.worker();
    let (gate, other) = (held.gate, free.gate);
    let (refused, fine) = thread::spawn(move || {
        let _working = worker.work();
        (gate.try_enter().map(|_| ()).unwrap_err(), other.try_enter().is_ok())
    })
    .join()
    .unwrap();
    assert_eq!(refused.interface, "held by me");
    assert!(refused.to_string().contains("its own replacement"));
    assert!(fine);
    drop(hold);
    assert!(held.gate.try_enter().is_ok());
}

#[test]
fn calls_are_counted_while_someone_watches() {
    let f = Fixture::new("counted");
    drop(f.gate.enter());
    f.gate.count_calls(true);
    for _ in 0..3 {
        drop(f.gate.enter());
    }
    f.swap(1);
    assert!(f.gate.is_counting(), "a swap keeps the counting");
    assert_eq!(which(&f.gate.enter()), 1);
    f.gate.count_calls(false);
    let second = f.gate.enter();
    assert_eq!((f.gate.counted_calls(), second.counted_calls()), (4, 1), "in all, and the new one's");
}

#[test]
fn a_new_gate_lets_callers_wait_for_its_first_instance() {
    let _alone = alone();
    let gate: &'static GateHead = Box::leak(Box::new(GateHead::new("new")));
    assert!(gate.current().is_null());
    // SAFETY: refused.
    let refused = unsafe { Hold::begin(&[gate]) };
    assert!(matches!(refused, Err(HoldRefused::NeverOpened("new"))), "{refused:?}");
    let gate: &'static GateHead = Box::leak(Box::new(GateHead::new("newer")));
    // SAFETY: the gate is leaked.
    let head = unsafe { InstanceHead::new(ptr::without_provenance(1), ptr::null(), 0, gate) };
    let head: &'static InstanceHead = Box::leak(Box::new(head));
    let caller = thread::spawn(|| which(&gate.enter()));
    while gate.waited.load(Ordering::Relaxed) == 0 {
        thread::yield_now();
    }
    // SAFETY: leaked.
    unsafe { gate.open(head) };
    assert_eq!(caller.join().unwrap(), 0);
}

#[test]
fn blocks_of_ended_threads_are_used_again() {
    let f = Fixture::new("short lives");
    let gate = f.gate;
    let rounds = if cfg!(miri) { 5 } else { 2000 };
    thread::spawn(move || drop(gate.enter())).join().unwrap();
    let before = cells::blocks().count();
    for _ in 0..rounds {
        thread::spawn(move || drop(gate.enter())).join().unwrap();
    }
    // Other tests run at the same time; a block a thread would be 2000.
    assert!(cells::blocks().count() <= before + 256);
}

#[cfg(all(target_os = "linux", not(miri)))]
mod machine {
    use super::*;

    /// Runs `f` in a child of `fork`; it must return 0.
    fn in_fork(f: impl FnOnce() -> i32) -> i32 {
        // SAFETY: the child calls nothing that needs another thread, and exits
        // without unwinding or running destructors.
        match unsafe { libc::fork() } {
            0 => {
                let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_or(99);
                // SAFETY: ends the child.
                unsafe { libc::_exit(code) }
            }
            child => {
                assert!(child > 0);
                let mut status = 0;
                // SAFETY: waits for the child just made.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                assert!(libc::WIFEXITED(status), "{status}");
                libc::WEXITSTATUS(status)
            }
        }
    }

    #[test]
    fn a_forked_child_knows_its_own_calls_only() {
        let _alone = alone();
        let (mine, others, held) = (Fixture::new("mine"), Fixture::new("others"), Fixture::new("held"));
        let (inside, is_inside) = mpsc::channel();
        let (leave, may_leave) = mpsc::channel::<()>();
        let (gate, held_gate) = (others.gate, held.gate);
        let other = thread::spawn(move || {
            let _entered = gate.enter();
            // SAFETY: nothing else replaces.
            let _hold = unsafe { Hold::begin(&[held_gate]) }.unwrap();
            inside.send(()).unwrap();
            may_leave.recv().unwrap();
        });
        is_inside.recv().unwrap();
        let entered = mine.gate.enter();
        mine.swap(1);
        others.swap(1);
        assert!(!is_quiet(mine.instances[0]) && !is_quiet(others.instances[0]));
        let code = in_fork(|| {
            let own = !is_quiet(mine.instances[0]) && mine.instances[0].inside();
            let forgotten = is_quiet(others.instances[0]);
            let open = which(&held.gate.enter()) == 0;
            i32::from(!own) | i32::from(!forgotten) << 1 | i32::from(!open) << 2
        });
        assert_eq!(code, 0, "1: lost its own call, 2: kept another's, 4: a gate stayed held");
        assert!(held.gate.is_held());
        leave.send(()).unwrap();
        other.join().unwrap();
        drop(entered);
        assert!(is_quiet(mine.instances[0]));
    }

    #[test]
    fn a_thread_that_died_inside_is_named_as_gone() {
        static DIED: AtomicI32 = AtomicI32::new(0);
        extern "C" fn die(gate: *mut libc::c_void) -> *mut libc::c_void {
            // SAFETY: the test passes a leaked gate.
            let gate = unsafe { &*gate.cast::<GateHead>() };
            std::mem::forget(gate.enter());
            // SAFETY: takes nothing.
            DIED.store(unsafe { libc::gettid() }, Ordering::Release);
            // SAFETY: ends this thread alone, running no destructor.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
            ptr::null_mut()
        }
        let f = Fixture::new("deadly");
        let mut thread = 0;
        // SAFETY: `die` takes what it is given.
        let made = unsafe {
            libc::pthread_create(&raw mut thread, ptr::null(), die, ptr::from_ref(f.gate).cast_mut().cast())
        };
        assert_eq!(made, 0);
        // SAFETY: joined once; the kernel itself tells the waiter.
        assert_eq!(unsafe { libc::pthread_join(thread, ptr::null_mut()) }, 0);
        // The kernel wakes who joins before the thread has left the process.
        let tid = DIED.load(Ordering::Acquire);
        // SAFETY: signal 0 only asks.
        while unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, 0) } == 0 {
            thread::yield_now();
        }
        f.swap(1);
        let stuck = wait_quiet(&[f.instances[0]], Pins::Ignore, Some(Instant::now())).unwrap_err();
        let NotQuiet::Deadline(stuck) = stuck else { panic!("{stuck}") };
        assert!(stuck[0].gone && stuck[0].thread.ends_with("gone"), "{stuck:?}");
    }

    /// In the executable, with `membarrier`: the fast way must be in use.
    #[test]
    fn the_fast_way_is_found() {
        let f = Fixture::new("fast");
        let offset = Reach::of_host().tls_offset;
        if readers_pay_a_fence() {
            assert_eq!(offset, 0);
            return;
        }
        #[cfg(target_arch = "x86_64")]
        {
            let found = move || {
                drop(f.gate.enter());
                let first = cells::first_cell_at(offset);
                let entered = f.gate.enter();
                ptr::eq(entered.cell, first)
            };
            assert!(offset < 0, "the cells were not found in the executable's thread-locals");
            assert!(thread::spawn(found).join().unwrap(), "the fast way leads elsewhere");
        }
    }

    /// Fork, threads that end, deep nests: all of this file, in the other mode.
    #[test]
    fn all_of_it_holds_without_membarrier() {
        if std::env::var_os("LCR_NO_MEMBARRIER").is_some() {
            assert!(readers_pay_a_fence(), "LCR_NO_MEMBARRIER is not heeded");
            return;
        }
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let output = again.arg("gate::tests").env("LCR_NO_MEMBARRIER", "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("test result: ok. "), "{said}");
        assert!(!said.contains(" 0 passed"), "{said}");
    }
}

/// `mem::forget` is safe, so a cell may name an instance that is gone.
#[test]
fn what_a_forgotten_guard_names_is_compared_and_not_followed() {
    let _alone = alone();
    let held = Fixture::new("held");
    let gate: &'static GateHead = Box::leak(Box::new(GateHead::new("gone")));
    // SAFETY: the gate is leaked.
    let head = unsafe { InstanceHead::new(ptr::without_provenance(1), ptr::null(), 0, gate) };
    let head: *mut InstanceHead = Box::into_raw(Box::new(head));
    // SAFETY: nobody calls through the gate once it is gone.
    unsafe { gate.open(head) };
    let (inside, is_inside) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let called = held.gate;
    let caller = thread::spawn(move || {
        mem::forget(gate.enter());
        inside.send(()).unwrap();
        may_go.recv().unwrap();
        which(&called.enter())
    });
    is_inside.recv().unwrap();
    // SAFETY: a guard is all that was ever had of it, and nobody has that any more.
    drop(unsafe { Box::from_raw(head) });
    // SAFETY: nothing else replaces.
    let hold = unsafe { Hold::begin(&[called]) }.unwrap();
    go.send(()).unwrap();
    while hold.held_calls() == 0 {
        thread::yield_now();
    }
    drop(hold);
    assert_eq!(caller.join().unwrap(), 0);
}

/// More than are listed in one place, and fewer again.
#[test]
fn a_thread_inside_one_of_many_gates_passes_all() {
    let _alone = alone();
    let fixtures: Vec<Fixture> = (0..70).map(|_| Fixture::new("many")).collect();
    for count in [70, 30, 31, 1] {
        let gates: Vec<&'static GateHead> = fixtures[..count].iter().map(|f| f.gate).collect();
        let (inside, is_inside) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let (first, last) = (gates[0], gates[count - 1]);
        let caller = thread::spawn(move || {
            let _entered = last.enter();
            inside.send(()).unwrap();
            may_go.recv().unwrap();
            which(&first.enter())
        });
        is_inside.recv().unwrap();
        // SAFETY: nothing else replaces.
        let hold = unsafe { Hold::begin(&gates) }.unwrap();
        go.send(()).unwrap();
        assert_eq!(caller.join().unwrap(), 0);
        assert_eq!(hold.held_calls(), 0, "{count} gates");
    }
}

/// A caller that is inside one gate waits at another, and that is held again, together with
/// the first, before it has woken: it is inside of that transaction, and passes.
#[test]
fn whose_a_hold_is_is_asked_anew_when_another_begins() {
    let _alone = alone();
    let (a, b) = (Fixture::new("left"), Fixture::new("right"));
    let (left, right) = (a.gate, b.gate);
    for round in 0..if cfg!(miri) { 5 } else { 300 } {
        let (inside, is_inside) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let caller = thread::spawn(move || {
            let _entered = right.enter();
            inside.send(()).unwrap();
            may_go.recv().unwrap();
            which(&left.enter())
        });
        is_inside.recv().unwrap();
        // SAFETY: nothing else replaces.
        let first = unsafe { Hold::begin(&[left]) }.unwrap();
        go.send(()).unwrap();
        while first.held_calls() == 0 {
            thread::yield_now();
        }
        drop(first);
        // SAFETY: as above.
        let second = unsafe { Hold::begin(&[left, right]) }.unwrap();
        let quiet = second.wait_quiet(Instant::now().checked_add(Duration::from_secs(20)));
        assert!(quiet.is_ok(), "round {round}: {quiet:?}");
        drop(second);
        assert_eq!(caller.join().unwrap(), 0);
    }
}
