//! Kafka's hash of keys, bit for bit: the same key must go where every other producer of the topic puts it.

/// Where Java's producers put this key. The sign bit is cut off, not the sign.
pub(super) fn partition(key: &[u8], count: i32) -> i32 {
    (hash(key) & i32::MAX) % count
}

/// MurmurHash2, 32 bits, with Kafka's seed.
fn hash(key: &[u8]) -> i32 {
    let words = key.chunks_exact(4);
    let rest = words.remainder();
    let mut hash = SEED ^ key.len() as u32;
    for word in words {
        let mut word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(FACTOR);
        word ^= word >> 24;
        hash = hash.wrapping_mul(FACTOR) ^ word.wrapping_mul(FACTOR);
    }
    if !rest.is_empty() {
        let mut word = [0; 4];
        word[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u32::from_le_bytes(word)).wrapping_mul(FACTOR);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(FACTOR);
    hash ^= hash >> 15;
    hash as i32
}

const SEED: u32 = 0x9747_b28c;
const FACTOR: u32 = 0x5bd1_e995;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_goes_where_java_puts_it() {
        for (key, of_java, partitions) in JAVA {
            assert_eq!(hash(key), *of_java, "{}", key.escape_ascii());
            assert_eq!(
                COUNTS.map(|count| partition(key, count)),
                *partitions,
                "{}",
                key.escape_ascii()
            );
            assert_eq!(partition(key, 1), 0);
        }
    }

    #[test]
    fn long_keys_go_where_java_puts_them() {
        let key: Vec<u8> = (0..100_003_u32).map(|at| (at * 7) as u8).collect();
        assert_eq!((hash(&key[..1000]), partition(&key[..1000], 100)), (483_719_753, 53));
        assert_eq!((hash(&key), partition(&key, 100)), (-970_178_447, 1));
    }

    const COUNTS: [i32; 6] = [2, 3, 7, 12, 100, 1_000_003];

    /// As `org.apache.kafka.common.utils.Utils.murmur2(key)` and `org.apache.kafka.clients.producer.internals.
    /// BuiltInPartitioner.partitionForKey(key, count)` of kafka-clients 4.3.0 print them, for each of `COUNTS`.
    #[rustfmt::skip]
    const JAVA: &[(&[u8], i32, [i32; 6])] = &[
        (b"", 275646681, [1, 0, 2, 9, 81, 645856]),
        (b"a", -1563381124, [0, 1, 5, 4, 24, 100772]),
        (b"ab", 316155434, [0, 2, 0, 2, 34, 154486]),
        (b"abc", 479470107, [1, 0, 4, 3, 7, 468670]),
        (b"abcd", -1323649548, [0, 2, 5, 8, 0, 831631]),
        (b"abcde", 461995741, [1, 1, 4, 1, 41, 994358]),
        (b"abcdef", 1870650108, [0, 0, 5, 0, 8, 644498]),
        (b"abcdefg", -346467175, [1, 1, 4, 1, 73, 11070]),
        (b"abcdefgh", -955427363, [1, 0, 0, 9, 85, 52709]),
        (b"abcdefghi", -619679810, [0, 0, 1, 6, 38, 799257]),
        (b"abcdefghij", 8205847, [1, 1, 6, 7, 47, 205823]),
        (b"abcdefghijk", -232389549, [1, 2, 2, 11, 99, 88354]),
        (b"abcdefghijkl", -535286937, [1, 2, 6, 11, 11, 191875]),
        (b"abcdefghijklm", 387415655, [1, 2, 4, 11, 55, 414494]),
        (b"abcdefghijklmn", 1842055212, [0, 0, 4, 0, 12, 49686]),
        (b"abcdefghijklmno", 1680674526, [0, 0, 6, 6, 26, 669486]),
        (b"abcdefghijklmnop", -253887988, [0, 1, 5, 4, 60, 589981]),
        (b"abcdefghijklmnopq", 1490128915, [1, 1, 2, 7, 15, 124445]),
        (b"abcdefghijklmnopqr", 816947939, [1, 2, 3, 11, 39, 945491]),
        (b"abcdefghijklmnopqrs", 111171840, [0, 0, 3, 0, 40, 171507]),
        (b"abcdefghijklmnopqrst", 844227805, [1, 1, 1, 1, 5, 225273]),
        (b"0", 971027396, [0, 2, 3, 8, 96, 24483]),
        (b"1", -1993445489, [1, 0, 2, 3, 59, 37697]),
        (b"42", 417700972, [0, 1, 3, 4, 72, 699721]),
        (b"key", -1079937367, [1, 1, 4, 1, 81, 543080]),
        (b"key1", 28543940, [0, 2, 5, 8, 40, 543856]),
        (b"customer-1234567", 1476870023, [1, 2, 6, 11, 23, 865595]),
        (b"21", -973932308, [0, 0, 3, 0, 40, 547821]),
        (b"foobar", -790332482, [0, 0, 0, 6, 66, 147095]),
        (b"a-little-bit-long-string", -985981536, [0, 2, 1, 8, 12, 498629]),
        (b"a-little-bit-longer-string", -1486304829, [1, 2, 0, 11, 19, 176836]),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971, [1, 2, 3, 5, 77, 579413]),
        (b"gr\xc3\xbcn", 350648321, [1, 2, 2, 5, 21, 647271]),
        (b"\xe4\xb8\x96\xe7\x95\x8c", 1657972476, [0, 0, 6, 0, 76, 967505]),
        (b"\xf0\x9f\x90\xb8", 191358377, [1, 2, 0, 5, 77, 357804]),
        (b"\xff", -311467685, [1, 0, 5, 3, 63, 10455]),
        (b"\xff\xff", -1642832928, [0, 2, 0, 8, 20, 649208]),
        (b"\xff\xff\xff", 1548199422, [0, 0, 0, 6, 22, 194778]),
        (b"\xff\xff\xff\xff", 644171429, [1, 2, 6, 5, 29, 169497]),
        (b"\xff\xff\xff\xff\xff", -363838622, [0, 0, 2, 6, 26, 639677]),
        (b"\xff\xff\xff\xff\xff\xff", 28450676, [0, 2, 2, 8, 76, 450592]),
        (b"\xff\xff\xff\xff\xff\xff\xff", -71293549, [1, 1, 4, 7, 99, 183871]),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff", 185950397, [1, 2, 3, 5, 97, 949842]),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff", 1612811207, [1, 2, 0, 11, 7, 806371]),
        (b"\x00", 375494588, [0, 2, 0, 8, 88, 493463]),
        (b"\x00\x00", 595382058, [0, 0, 5, 6, 58, 380273]),
        (b"\x00\x00\x00", 1013532917, [1, 2, 5, 5, 17, 529878]),
        (b"\x00\x00\x00\x00", 850957120, [0, 1, 6, 4, 20, 954570]),
        (b"\x80", 857690492, [0, 2, 1, 8, 92, 687921]),
        (b"\x7f\x80", -376099533, [1, 2, 4, 11, 15, 378802]),
        (b"\x80\x00\x00", -2010535404, [0, 2, 6, 8, 44, 947836]),
        (b"\x00\x00\x80", -603651026, [0, 0, 3, 6, 22, 827993]),
        (b"\x00\x00\x00\x80", -717017630, [0, 0, 2, 6, 18, 461728]),
        (b"z", -581646306, [0, 2, 6, 2, 42, 832647]),
        (b"\xb9\xc5", -741808750, [0, 1, 5, 10, 98, 670683]),
        (b"\xfb\xa7\xbc", 476336460, [0, 0, 5, 0, 60, 335032]),
        (b"\xd3\x06C\xfe", 1824901729, [1, 1, 0, 1, 29, 896257]),
        (b"\xab\xa59\xcb\xae", 559760860, [0, 1, 1, 4, 60, 759183]),
        (b"\x92b\xbf)\xc6\x9a", 2011079832, [0, 0, 6, 0, 32, 73799]),
        (b"#?\xaf'\xb0\x1b\x8e", 94091022, [0, 0, 4, 6, 22, 90740]),
        (b"\xd4\xa9(B\xf5\x92\x08t", 1536363092, [0, 2, 5, 8, 92, 358484]),
        (b"\x0b\x8fhq\x05\x8f\xf5\x0d\xf0", 1617048103, [1, 1, 6, 7, 3, 43252]),
        (b"\xc8\x94\xb6 !\xfb\"\x10\x91a", -1090795297, [1, 1, 5, 7, 51, 685183]),
        (b"c\xcc\xc2\xfd|\x81Qq\xbb`\xed", -2076433543, [1, 1, 0, 1, 5, 49892]),
        (b"\x8b\xc8\xc1\x19\x9d\xf0d\x81\xf2\xd9!\xdf", -1956885251, [1, 0, 3, 9, 97, 597827]),
        (b"\x0c\x0e\x8c`s\xe8>\xbd\xe36k9\xc3", 755887091, [1, 2, 1, 11, 91, 884826]),
        (b"\xa5\x8bL\xb7C:\x18\xa6w\xdc\xb9J\x97\xfb", 1006479153, [1, 0, 1, 9, 53, 476135]),
        (b">\xfa\x8dp\xe4\x8f\xa7\xc7\xf7\xef\xf5>\xb7`\xa0", -163428298, [0, 1, 4, 10, 50, 49398]),
        (b"\xb7\x08K\xcd\xe3k\xd5\xb4\x02a7j\xdf\xc5Z%", -1748164076, [0, 0, 1, 0, 72, 318375]),
        (b"Y\xc6>\x8ad\xa0_\x8b!\xe6\xd9\xabXC\xba8`", -581533721, [1, 0, 3, 3, 27, 945232]),
        (b"Viv\x86\xe3\xdc\xdb@FF\"!\xbd\xc1q\xb2\xe8u", -848978129, [1, 0, 3, 3, 19, 501625]),
        (b"I\x88\x883>\xf9\xf7\x0e\x17\x80\xfc\x10:\x95\xc9\x87dQ\x1d", -335533714, [0, 1, 4, 10, 34, 944501]),
        (b"\x1b\"By\x13Y\xe6\xd0W\xfa\xf6\xa3<\xee\xef\x9e\x12\x89\x08!", 70577003, [1, 2, 0, 11, 3, 576793]),
    ];
}
