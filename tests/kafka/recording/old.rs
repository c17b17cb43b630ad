//! Messages of magic 0 and 1, which brokers of today do not write any more, by hand.

use std::io::Write;

use flate2::{Compression, Crc, write::GzEncoder};

pub(super) fn record() {
    for magic in [0, 1] {
        let plain: Vec<Vec<u8>> = (0..3)
            .map(|offset| message(magic, offset, 0, Some(format!("value {offset}").as_bytes())))
            .collect();
        super::write("batch", &format!("magic-{magic}"), &plain.concat());
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&plain.concat()).expect("memory");
        let wrapped = message(magic, 2, 1, Some(&gzip.finish().expect("memory")));
        let null = message(magic, 3, 0, None);
        super::write("batch", &format!("magic-{magic}-gzip"), &[wrapped, null].concat());
    }
}

fn message(magic: u8, offset: i64, attributes: u8, value: Option<&[u8]>) -> Vec<u8> {
    let mut checked = vec![magic, attributes];
    if magic == 1 {
        checked.extend(1_500_000_000_000_i64.to_be_bytes());
    }
    for piece in [Some(&b"key"[..]), value] {
        let length = piece.map_or(-1, |piece| piece.len() as i32);
        checked.extend(length.to_be_bytes());
        checked.extend(piece.unwrap_or_default());
    }
    let mut crc = Crc::new();
    crc.update(&checked);
    let mut message = offset.to_be_bytes().to_vec();
    message.extend((checked.len() as u32 + 4).to_be_bytes());
    message.extend(crc.sum().to_be_bytes());
    message.extend(checked);
    message
}
