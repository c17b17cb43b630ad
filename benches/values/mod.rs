//! What benches write and read: values as long as one wishes, none like the other.

#![allow(dead_code, reason = "every bench has its own copy, and needs what it needs")]

/// Letters that no codec finds anything in.
pub(crate) fn noise(i: usize, bytes: usize) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
    let mut state = scattered(i);
    let letters = (0..bytes).map(|at| {
        if at % 10 == 0 {
            state = scattered(state as usize ^ at);
        }
        LETTERS[(state >> (at % 10 * 6)) as usize % LETTERS.len()]
    });
    letters.collect()
}

/// 200 bytes, repetitive as events are, with something new in each.
pub(crate) fn text(i: usize) -> Vec<u8> {
    let noise = scattered(i);
    let mut text = format!(
        r#"{{"id":"{noise:016x}","type":"order.created","customer":{},"amount":{}.{:02},"currency":"EUR","items":[{{"sku":"SKU-{:05}","quantity":{}}}],"note":"#,
        noise >> 40,
        noise % 997,
        noise % 100,
        noise % 100_000,
        1 + noise % 7
    );
    text.push_str("\"please ring twice at the door\"");
    while text.len() < 199 {
        text.push(' ');
    }
    text.truncate(199);
    text.push('}');
    text.into_bytes()
}

/// Neighbours become strangers.
fn scattered(i: usize) -> u64 {
    let mixed = (i as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}
