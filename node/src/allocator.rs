//! The allocator of the program: mimalloc, asked the short way.
//!
//! Payloads are allocated by one thread and freed by another, where glibc's arenas grow and contend.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys as mi;

/// What `mi_malloc` aligns every block to that is as large, as C demands of it.
const USUAL_ALIGNMENT: usize = 16;

/// mimalloc's functions for aligned memory first find out what the others know: for the alignments of nearly all types, that any block will do.
/// An append allocates some forty times.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allocator;

const fn is_aligned_anyway(size: usize, alignment: usize) -> bool {
    alignment <= USUAL_ALIGNMENT && alignment <= size
}

// SAFETY: mimalloc keeps the contract of malloc for each function, `mi_malloc` and `mi_realloc` give blocks that are aligned as
// `is_aligned_anyway` says, and `mi_free` and both forms of realloc take blocks of all the others.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, alignment) = (layout.size(), layout.align());
        // SAFETY: any size and every power of two as alignment are allowed; on failure both return null, as they have to.
        let block = unsafe {
            if is_aligned_anyway(size, alignment) {
                mi::mi_malloc(size)
            } else {
                mi::mi_malloc_aligned(size, alignment)
            }
        };
        block.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, alignment) = (layout.size(), layout.align());
        // SAFETY: as above.
        let block = unsafe {
            if is_aligned_anyway(size, alignment) {
                mi::mi_zalloc(size)
            } else {
                mi::mi_zalloc_aligned(size, alignment)
            }
        };
        block.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller hands over a block that was allocated here.
        unsafe { mi::mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let alignment = layout.align();
        // SAFETY: the caller hands over a block that was allocated here; it stays his when null is returned.
        let block = unsafe {
            if is_aligned_anyway(size, alignment) {
                mi::mi_realloc(block.cast(), size)
            } else {
                mi::mi_realloc_aligned(block.cast(), size, alignment)
            }
        };
        block.cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_zeroed_and_keep_their_content() {
        for size in (1..600).chain([4_096, 70_000, 3 << 20]) {
            for alignment in [1, 2, 4, 8, 16, 32, 64, 4_096] {
                let layout = Layout::from_size_align(size, alignment).unwrap();
                let larger = Layout::from_size_align(size * 2, alignment).unwrap();
                // SAFETY: each block is used within its size, and given back once with the layout it has then.
                unsafe {
                    let block = Allocator.alloc(layout);
                    block.write_bytes(7, size);
                    let zeroed = Allocator.alloc_zeroed(layout);
                    let grown = Allocator.realloc(block, layout, size * 2);
                    for block in [zeroed, grown] {
                        assert!(!block.is_null() && block.addr().is_multiple_of(alignment), "{layout:?}");
                    }
                    assert!(std::slice::from_raw_parts(zeroed, size).iter().all(|byte| *byte == 0), "{layout:?}");
                    assert!(std::slice::from_raw_parts(grown, size).iter().all(|byte| *byte == 7), "{layout:?}");
                    Allocator.dealloc(zeroed, layout);
                    Allocator.dealloc(grown, larger);
                }
            }
        }
    }
}
