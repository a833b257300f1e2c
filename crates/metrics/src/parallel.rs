//! Independent work, on every processor.

use std::num::NonZero;
use std::thread;

/// What `work` makes of every number below `count`, in their order, whatever the number of
/// processors.
pub(crate) fn map<T: Send>(count: u32, work: impl Fn(u32) -> T + Sync) -> Vec<T> {
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let share = (count as usize).div_ceil(workers).max(1);
    let work = &work;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..count)
            .step_by(share)
            .map(|first| {
                let last = count.min(first.saturating_add(share as u32));
                scope.spawn(move || (first..last).map(work).collect::<Vec<_>>())
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_none_is_missing() {
        for count in [0, 1, 2, 3, 7, 100] {
            let squares: Vec<u32> = (0..count).map(|n| n * n).collect();
            assert_eq!(map(count, |n| n * n), squares);
        }
    }
}
