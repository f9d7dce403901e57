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

/// A block to read into, which goes back when it is dropped.
pub(super) struct Block {
    bytes: Box<[u8]>,
    /// Bytes from the start that are filled.
    length: usize,
    home: Blocks,
}

impl Blocks {
    /// A block. To be taken where the reading is asked for, and not on the thread that will do it: there are dozens of
    /// those, and an allocator that keeps a heap for each of them would keep a block for each.
    pub(super) fn take(&self) -> Block {
        let free = self.free.lock().pop();
        let bytes = free.unwrap_or_else(|| vec![0; BLOCK].into_boxed_slice());
        Block { bytes, length: 0, home: self.clone() }
    }
}

impl Block {
    /// Lets `fill` write into the first `length` bytes, and hands them out.
    ///
    /// # Errors
    /// What `fill` says.
    ///
    /// # Panics
    /// Where `length` is more than [`BLOCK`]: the caller cuts its reads.
    pub(super) fn filled(
        mut self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<Bytes> {
        fill(&mut self.bytes[..length])?;
        self.length = length;
        Ok(Bytes::from_owner(self))
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut free = self.home.free.lock();
        if free.len() < KEEP {
            free.push(std::mem::take(&mut self.bytes));
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
            .take()
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
        assert!(blocks.take().filled(3, |_| Err(io::ErrorKind::Other.into())).is_err());
        assert_eq!(blocks.free.lock().len(), 1, "also after an error");
    }
}
