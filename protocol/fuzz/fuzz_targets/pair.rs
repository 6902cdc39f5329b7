#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| peeklock_protocol::fuzzing::pair(data));
