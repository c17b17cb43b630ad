use super::*;

/// Larger than anything the tests inflate on purpose.
const LIMIT: usize = 4 << 20;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// A record as values, to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Everything in fetched bytes, or the first thing that is wrong with them.
fn read(bytes: &[u8], limit: usize) -> Result<Vec<Owned>, BatchError> {
    let mut decoder = Decoder::new(limit);
    let mut out = Vec::new();
    let mut records = Vec::new();
    for batch in Walk::new(bytes) {
        let (place, span) = decoder.decode(bytes, &batch?, &mut out)?;
        let data = if place == Place::InFetched { bytes } else { &out };
        let mut cursor = Cursor::new(&span);
        while let Some(record) = cursor.next(data, &span) {
            records.push(owned(&record?, data));
        }
        assert!(cursor.next(data, &span).is_none());
    }
    Ok(records)
}

fn owned(record: &RecordView, data: &[u8]) -> Owned {
    let headers = record.headers.iter(data);
    assert_eq!(headers.len(), record.headers.count as usize);
    Owned {
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key.of(data).map(<[u8]>::to_vec),
        value: record.value.of(data).map(<[u8]>::to_vec),
        headers: headers
            .map(|h| (h.key_bytes().to_vec(), h.value().map(<[u8]>::to_vec)))
            .collect(),
    }
}

fn compressor(compression: Compression) -> Option<Compressor> {
    Compressor::new(compression, None).ok() // none where its feature is off
}

#[test]
fn what_was_written_is_read_with_every_codec() {
    for mut compressor in CODECS.into_iter().filter_map(compressor) {
        let mut writer = BatchWriter::new(Vec::new());
        for i in 0..1000 {
            writer
                .append(
                    i,
                    Some(b"key"),
                    Some(format!("value {i}").as_bytes()),
                    &[(b"h", Some(b"x"))],
                )
                .unwrap();
        }
        let bytes = writer
            .finish(Sequence::NONE, 70, Flags::default(), &mut compressor)
            .unwrap();
        let records = read(&bytes, LIMIT).unwrap();
        assert_eq!(records.len(), 1000);
        for (i, record) in records.iter().enumerate() {
            assert_eq!(record.offset, 70 + i as i64);
            assert_eq!(record.value, Some(format!("value {i}").into_bytes()));
        }
    }
}
