#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| peeklock_core::filter::fuzzing::filter(data));
