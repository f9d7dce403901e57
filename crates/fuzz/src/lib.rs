//! What is fuzzed: one function for each decoder of outside bytes. It reads any bytes as that decoder would, and panics
//! where a promise is broken: what is accepted is valid and inside its limits, it reads the same again after it was
//! written, and nothing takes more memory than the input can answer for.
//!
//! libFuzzer calls these by `script/fuzz`, from the workspace in `libfuzzer/`. The tests of this crate call them with
//! every seed in `seeds/`, so that neither rots; what libFuzzer found is a seed there, and a test where it was mended.

mod content;
mod directory;
mod grpc;
mod input;
mod relay;
mod rest;

use peak_alloc::PeakAlloc;

/// Counts what is allocated. For the whole process, so one target runs at a time.
#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// What is small whatever the input is: buffers, error texts, tables of a library.
const SMALL: usize = 64 << 10;

/// Reads some bytes, and panics where a promise is broken.
pub type Target = fn(&[u8]);

/// Every target and its name, which is also its folder in `seeds/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("catalog_delta", directory::catalog_delta),
    ("certificate_request", directory::certificate_request),
    ("fetch_answer", grpc::fetch_answer),
    ("outline", content::outline),
    ("peer_question", grpc::peer_question),
    ("piece_set", content::piece_set),
    ("query", rest::query),
    ("range_header", rest::range_header),
    ("relay_answer", relay::answer),
    ("relay_question", relay::question),
    ("request_body", rest::request_body),
    ("safe_name", content::safe_name),
];

/// Runs the target of that name.
///
/// # Panics
/// Where a promise is broken, and where there is no such target.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, target) = target.unwrap_or_else(|| panic!("there is no target {name}"));
    target(data);
}

/// Does something that may take `factor` bytes of memory for each byte of `input`, and a little whatever the input is.
#[track_caller]
fn frugally<T>(factor: usize, input: &[u8], work: impl FnOnce() -> T) -> T {
    within(factor * input.len(), work)
}

/// Does something that may take so many bytes of memory, and a little.
#[track_caller]
fn within<T>(allowed: usize, work: impl FnOnce() -> T) -> T {
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    let done = work();
    let taken = HEAP.peak_usage().saturating_sub(before);
    assert!(taken <= allowed + SMALL, "{taken} bytes of memory were taken; {allowed} are allowed");
    done
}

/// A refusal is read by people, and is no echo: however long the input, it is short.
#[track_caller]
fn is_short(refusal: &str) {
    assert!(refusal.len() <= 1024, "a refusal of {} bytes", refusal.len());
}
