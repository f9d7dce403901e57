//! What a process of ours takes of the machine's memory.

/// From here on the process has pages of 4 KiB alone.
///
/// The allocator asks for pages of 2 MiB and returns whole ones only, so that buffers which come and go on several threads
/// hold much more than is in use: 150 MiB against 90 in a peer that fetches over the relay, 107 against 70 directly, at
/// the same speed or a little more. Called first thing. Where the system does not let a process say so, nothing changes.
pub fn small_pages() {
    let _as_it_was = rustix::thread::disable_transparent_huge_pages(true);
}
