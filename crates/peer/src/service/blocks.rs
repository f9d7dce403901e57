//! [`Blocks`]: reused buffers for reading files.
//!
//! A fresh buffer for every read costs page faults, a tenth of a sender's time; these come back when the last frame
//! that was cut from them has left.

use std::{io, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;

/// Bytes in a block.
pub(super) const BLOCK: usize = 512 << 10;
/// Blocks kept for the next reader; more are made when needed and dropped after.
const KEEP: usize = 32;

/// Clones share the blocks.
#[derive(Debug, Clone, Default)]
pub struct Blocks {
    free: Arc<Mutex<Vec<Box<[u8]>>>>,
}

/// The filled start of a block, which goes back when it is dropped.
struct Filled {
    block: Option<Box<[u8]>>,
    length: usize,
    home: Blocks,
}

impl Blocks {
    /// Lets `fill` write into the first `length` bytes of a block, and hands them out.
    ///
    /// # Errors
    /// What `fill` says.
    ///
    /// # Panics
    /// Where `length` is more than [`BLOCK`]: the caller cuts its reads.
    pub fn filled(&self, length: usize, fill: impl FnOnce(&mut [u8]) -> io::Result<()>) -> io::Result<Bytes> {
        let mut block = self.free.lock().pop().unwrap_or_else(|| vec![0; BLOCK].into_boxed_slice());
        let outcome = fill(&mut block[..length]);
        let filled = Filled { block: Some(block), length, home: self.clone() };
        outcome.map(|()| Bytes::from_owner(filled))
    }
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        self.block.as_deref().map_or(&[], |block| &block[..self.length])
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        let mut free = self.home.free.lock();
        if let Some(block) = self.block.take()
            && free.len() < KEEP
        {
            free.push(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_comes_back_when_its_last_slice_is_gone() {
        let blocks = Blocks::default();
        let bytes = blocks
            .filled(3, |to| {
                to.copy_from_slice(b"abc");
                Ok(())
            })
            .unwrap();
        let slice = bytes.slice(1..);
        drop(bytes);
        assert_eq!((slice.as_ref(), blocks.free.lock().len()), (b"bc".as_slice(), 0));
        drop(slice);
        assert_eq!(blocks.free.lock().len(), 1);
        assert!(blocks.filled(3, |_| Err(io::ErrorKind::Other.into())).is_err());
        assert_eq!(blocks.free.lock().len(), 1, "also after an error");
    }
}
