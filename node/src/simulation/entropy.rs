//! The randomness of the standard library and of tokio.
//!
//! Both take theirs from [`std::hash::RandomState`]: the order of hash maps, and which branch of a
//! `select!` or which waiter is first. The standard library asks the system for it once per thread,
//! through the symbol below. A thread that runs a simulation gets numbers from its seed; all other
//! threads get those of the system.

use std::cell::Cell;
use std::ffi::{c_uint, c_void};

thread_local! {
    static NEXT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// What this thread asks the system for from now on follows from the seed. Call it first of all on
/// a new thread.
pub(super) fn seed_this_thread(seed: u64) {
    NEXT.set(Some(seed));
}

/// Stands before the function of the C library in this program of tests.
///
/// # Safety
/// As for the function of the C library: `buffer` takes `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    let Some(seed) = NEXT.get() else {
        // SAFETY: the arguments are those of the caller.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) } as isize;
    };
    let mut state = seed;
    // SAFETY: the caller owns `length` bytes from `buffer` on.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for byte in bytes {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        *byte = (mixed ^ (mixed >> 31)) as u8;
    }
    NEXT.set(Some(state));
    length as isize
}
