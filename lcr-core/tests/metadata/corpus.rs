//! The fuzzer's corpus, replayed. The files' names say what is to come of them:
//! `sound-…` is read, `bad-…` is refused, and of `found-…`, which the fuzzer made,
//! it is enough that the reader answers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use lcr_core::metadata::Metadata;

#[test]
fn the_corpus_is_answered_as_its_names_say() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/metadata");
    let mut counts = BTreeMap::new();
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let from_disk = Metadata::read(&path);
        let from_memory = Metadata::parse(&fs::read(&path).unwrap(), &path);
        // Both ways in are one reader.
        assert_eq!(format!("{from_disk:?}"), format!("{from_memory:?}"), "{name}");
        let expected = name.split('-').next().unwrap();
        match (expected, from_disk) {
            ("sound", Ok(_)) | ("bad", Err(_)) | ("found", _) => {}
            (_, outcome) => panic!("{name}: {outcome:?}"),
        }
        *counts.entry(expected.to_owned()).or_insert(0) += 1;
    }
    assert!(counts["sound"] > 5 && counts["bad"] > 5, "{counts:?}");
}
