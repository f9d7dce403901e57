//! Files for tests: bytes that look random and are the same each time.

use std::{fs::File, io::Read, path::Path};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::SmallRng};

/// `len` bytes that no other seed gives.
pub fn sample(seed: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    SmallRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes.into()
}

/// All of a file that a test knows to be small enough.
pub fn read(path: impl AsRef<Path>) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::open(path.as_ref())
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()));
    bytes
}
