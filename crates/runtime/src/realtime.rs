//! Threads that no ordinary program may keep waiting.

use thread_priority::ThreadPriority;

/// Priorities of the guard's thread and of the one that sends what it decides, of 99. Threads of a kernel that serve
/// interrupts have 50.
pub(crate) const GUARD: u8 = 48;
pub(crate) const SENDER: u8 = 47;

/// Asks for the present thread to run ahead of all ordinary ones (`SCHED_FIFO`); whether the system allows it. Linux does
/// with `CAP_SYS_NICE` or a limit `rtprio`.
pub(crate) fn run_ahead(priority: u8) -> bool {
    let Ok(priority) = ThreadPriority::try_from(priority) else { return false };
    #[cfg(unix)]
    {
        use thread_priority::{
            RealtimeThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy,
            thread_native_id,
        };
        let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
        set_thread_priority_and_policy(thread_native_id(), priority, policy).is_ok()
    }
    #[cfg(not(unix))]
    thread_priority::set_current_thread_priority(priority).is_ok()
}
