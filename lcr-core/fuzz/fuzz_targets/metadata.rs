//! Reading a file that nobody vouches for: any bytes have an answer.

#![no_main]

use std::path::Path;

use lcr_core::metadata::Metadata;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzzed");
    match Metadata::parse(bytes, path) {
        Ok(metadata) => {
            // The order of what was read is settled, so sorting changes nothing.
            let mut sorted = metadata.clone();
            sorted.sort();
            assert_eq!(sorted, metadata);
            assert!(metadata.to_json(path).to_string().starts_with('{'));
        }
        Err(error) => assert!(error.to_string().starts_with("fuzzed: ")),
    }
});
