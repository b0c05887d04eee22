//! The file that says how much of the log is durable, fed with arbitrary bytes
//! (docs/correctness.md, "Fuzzing").

use super::durable_mark::Durable;

/// The content of the file; its checksum is made right if it has the length.
pub(crate) fn durable_mark(input: &[u8]) -> Option<()> {
    let read = Durable::decode(input);
    if let Some(durable) = read {
        assert_eq!(durable.encode(), input);
    }
    let (numbers, _) = input.split_at_checked(16)?;
    let whole = [numbers, &crc32c::crc32c(numbers).to_le_bytes()].concat();
    let durable = Durable::decode(&whole)?;
    assert_eq!(durable.encode()[..], whole);
    Some(())
}
