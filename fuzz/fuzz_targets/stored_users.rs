#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| headwater::fuzzing::run("stored_users", input));
