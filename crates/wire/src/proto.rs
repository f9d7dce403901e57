//! The messages between peers, generated from `proto/trueque/v1`, and the descriptors that server reflection shows.

#![expect(clippy::allow_attributes, reason = "generated")]

tonic::include_proto!("trueque.v1");

/// The most bytes of a message between peers that is no file's bytes: a page of a proof with a piece set of the largest
/// file, or a batch with one small file.
pub const MAX_MESSAGE: usize = (1 << 20) + (64 << 10);

/// Whether `message` has field `number` at most `most` times, as far as it can be read. An entry of a list takes two
/// bytes and, decoded, sixty; so a list of strangers is counted before it is decoded.
pub fn has_at_most(mut message: &[u8], number: u32, most: usize) -> bool {
    use prost::encoding::{DecodeContext, decode_key, skip_field};
    let mut left = most;
    while !message.is_empty() {
        let Ok((tag, kind)) = decode_key(&mut message) else { return true };
        if tag == number {
            let Some(fewer) = left.checked_sub(1) else { return false };
            left = fewer;
        }
        if skip_field(kind, tag, &mut message, DecodeContext::default()).is_err() {
            return true;
        }
    }
    true
}

/// The encoded `FileDescriptorSet` of everything in `proto/`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn a_list_is_counted_before_it_is_decoded() {
        let batch = FileBatch { files: vec![FileChunk { index: 7, ..Default::default() }; 3] };
        let message = batch.encode_to_vec();
        assert!(has_at_most(&message, 1, 3) && !has_at_most(&message, 1, 2));
        assert!(has_at_most(&message, 2, 0), "another field");
        assert!(!has_at_most(&[0x0a, 0].repeat(1_001), 1, 1_000), "empty ones count too");
        assert!(has_at_most(&[0xff], 1, 0), "what cannot be read is for the decoder to refuse");
        let page = Description {
            chaining_values: vec![7; 8_192 * 32].into(),
            pieces: Some(PieceSet { bits: vec![7; 1 << 19].into(), ..Default::default() }),
            ..Default::default()
        };
        assert!(page.encoded_len() < MAX_MESSAGE);
    }
}
