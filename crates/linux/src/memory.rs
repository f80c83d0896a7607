//! The C allocator's settings. Many small daemons are paid for by the page.

/// From this size on a buffer is a mapping of its own and goes back to the system when it is freed, bytes.
const MAPPED_FROM: libc::c_int = 32 * 1024;

/// Makes freed memory go back to the system early. For programs whose resident size counts more than their speed.
pub fn give_back_early() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt changes thresholds of the allocator and nothing else; an unknown option is refused with 0.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
        libc::mallopt(libc::M_TRIM_THRESHOLD, MAPPED_FROM);
        libc::mallopt(libc::M_TOP_PAD, 4096);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = MAPPED_FROM;
}
