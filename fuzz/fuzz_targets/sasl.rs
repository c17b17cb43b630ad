#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| klamm::internals::fuzzed::run("sasl", bytes));
