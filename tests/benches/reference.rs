//! What a reference costs, and its release, when the interface is loaded already:
//! with 1 to 10,000 registered components, against a list that is searched from its
//! beginning, as the original did.
//!
//! ```sh
//! cargo bench -p lcr-tests --bench reference
//! ```

mod registered;
mod rounds;

use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr;

use bench_worker::Work;
use lcr_core::Factory;
use rounds::{Side, compare, target};

const ROUNDS: usize = 100;
const COUNTS: [usize; 4] = [1, 100, 1_000, 10_000];

fn main() {
    let mut criterion = rounds::criterion();
    let mut sides = Vec::new();
    let mut held = Vec::new();
    for count in COUNTS {
        // One more: with one component there is a raw one beside the typed one.
        let factory =
            Factory::builder().without_environment().components(registered::components(count.max(2))).build();
        let (typed, raw) =
            (registered::typed((count.max(2) / 2) & !1), registered::raw((count.max(2) / 2) | 1));
        held.push(factory.reference::<dyn Work>(&typed, 0).unwrap());
        let other = factory.clone();
        sides.push(Side::each(format!("typed, {count} registered"), move || {
            other.reference::<dyn Work>(&typed, 0).unwrap()
        }));
        sides.push(Side::each(format!("raw, {count} registered"), move || {
            // SAFETY: the table holds one function, and the context is not looked at.
            unsafe { factory.reference_raw::<[extern "C" fn(); 1]>(&raw, 0, ptr::null_mut()) }.unwrap()
        }));
    }
    let built = lcr_tests::build(&["lcr-bench-worker-library"], lcr_tests::Profile::Release);
    let library =
        Factory::builder().components([]).without_environment().path(built.library("worker")).build();
    held.push(library.reference::<dyn Work>("bench.work", 0).unwrap());
    sides.push(Side::each("typed, in a library", move || {
        library.reference::<dyn Work>("bench.work", 0).unwrap()
    }));

    for list in COUNTS.map(List::new) {
        let wanted = CString::new(registered::typed(list.0.len() / 2)).unwrap();
        sides.push(Side::each(format!("a list, {} registered", list.0.len()), move || {
            list.reference(&wanted, 0)
        }));
    }
    let measured = compare(&mut criterion, "reference and release", ROUNDS, 1_000, sides);

    for count in COUNTS {
        for kind in ["typed", "raw"] {
            let name = format!("{kind}, {count} registered");
            target(&format!("reference + release, {name}"), 100.0, measured.median(&name), "ns");
        }
    }
    target("reference + release, typed, in a library", 100.0, measured.median("typed, in a library"), "ns");
    for kind in ["typed", "raw"] {
        let [one, many] = [1, 10_000].map(|n| measured.median(&format!("{kind}, {n} registered")));
        println!("{kind}: 10,000 registered cost {:.2} times what 1 does", many / one);
    }
    criterion.final_summary();
}

/// A stand-in for the original: each interface in a place of its own, found by
/// comparing names from the first one on.
#[expect(clippy::vec_box, reason = "the original's list is of allocations")]
struct List(Vec<Box<Node>>);

struct Node {
    name: CString,
    version: c_int,
    references: std::cell::Cell<usize>,
    _context: *mut c_void,
}

impl List {
    fn new(count: usize) -> Self {
        let node = |number| {
            Box::new(Node {
                name: CString::new(registered::typed(number)).unwrap(),
                version: 0,
                references: Default::default(),
                _context: ptr::null_mut(),
            })
        };
        List((0..count).map(node).collect())
    }

    /// References, and releases.
    fn reference(&self, name: &CStr, version: c_int) -> usize {
        // SAFETY: both are NUL-terminated.
        let same = |node: &Node| unsafe { libc::strcmp(node.name.as_ptr(), name.as_ptr()) == 0 };
        let node = self.0.iter().find(|node| same(node) && node.version == version).unwrap();
        node.references.set(node.references.get() + 1);
        let references = std::hint::black_box(&node.references).get();
        node.references.set(references - 1);
        references
    }
}
