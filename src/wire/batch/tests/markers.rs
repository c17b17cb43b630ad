//! Control batches: how a transaction ended.

use super::*;

fn control(key: &[u8]) -> Vec<u8> {
    let mut writer = TestBatch::new();
    writer.append(0, Some(key), Some(&[0, 0, 0, 0, 0, 1]), &[]);
    finished(
        writer,
        3,
        Flags {
            transactional: true,
            control: true,
            log_append: false,
        },
    )
}

fn marker_of(bytes: &[u8]) -> Result<Marker, Problem> {
    marker(bytes, &Walk::new(bytes).next().unwrap().unwrap()).map_err(|error| error.problem)
}

#[test]
fn control_batches_say_how_a_transaction_ended() {
    assert_eq!(marker_of(&control(&[0, 0, 0, 0])), Ok(Marker::Abort));
    assert_eq!(marker_of(&control(&[0, 0, 0, 1])), Ok(Marker::Commit));
    assert_eq!(marker_of(&control(&[0, 7, 0, 1, 9])), Ok(Marker::Commit));
    assert_eq!(marker_of(&control(&[0, 0, 0, 2])), Ok(Marker::Other));
    let compacted = with_field(control(&[0, 0, 0, 1])[..61].to_vec(), 57, &0_i32.to_be_bytes());
    assert_eq!(marker_of(&compacted), Ok(Marker::Other));
}

#[test]
fn a_marker_that_is_none_is_refused() {
    assert_eq!(marker_of(&control(&[0, 0, 0])), Err(Problem::Control));
    assert_eq!(marker_of(&control(&[255, 0, 0, 1])), Err(Problem::Control));
    assert_eq!(marker_of(&batch_of(0, &[b"data"])), Err(Problem::Control));
    let compressed = with_field(control(&[0, 0, 0, 1]), 21, &0x31_i16.to_be_bytes());
    assert_eq!(marker_of(&compressed), Err(Problem::Control));
    let mut flipped = control(&[0, 0, 0, 1]);
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(marker_of(&flipped), Err(Problem::Checksum));
}
