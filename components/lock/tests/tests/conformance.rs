//! Every driver, compiled in and as a library, does what the contract promises.

use lcr_lock_tests::{Locks, Subject, suite};

const NOP: Subject = Subject {
    interface: "lock.nop",
    library: None,
    directory: false,
    locks: Locks::Nothing,
    elsewhere: None,
};
const FILE: Subject = Subject {
    interface: "lock.file",
    library: None,
    directory: false,
    locks: Locks::Resources,
    elsewhere: None,
};
const WHOLE: Subject = Subject {
    interface: "lock.whole",
    library: None,
    directory: true,
    locks: Locks::Guests,
    elsewhere: None,
};

suite!(nop, NOP);
suite!(nop_library, Subject { library: Some(("lcr-lock-nop-library", "lock_nop")), ..NOP });
suite!(file, FILE);
suite!(file_library, Subject { library: Some(("lcr-lock-file-library", "lock_file")), ..FILE });
suite!(file_second_version, Subject { library: Some(("lcr-lock-file-two", "lock_file_two")), ..FILE });
suite!(file_in_a_directory, Subject { directory: true, ..FILE });
suite!(whole_guest, WHOLE);
