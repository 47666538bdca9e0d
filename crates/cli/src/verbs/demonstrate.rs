//! Demonstrations on all cores, handed on in the order of their seeds.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use anyhow::Result;
use nudge_control::Episode;
use nudge_sim::TaskConfig;

/// Has the task's expert demonstrate every seed, on `threads` threads. Each episode goes to `take`, in the order of
/// seeds, and is forgotten; `finished` hears of each as soon as it is over.
///
/// # Errors
/// As soon as `take` gives one.
pub fn demonstrate(
    task: &TaskConfig,
    seeds: Range<u64>,
    threads: usize,
    finished: &dyn Fn(),
    take: &mut dyn FnMut(Episode) -> Result<()>,
) -> Result<()> {
    let count = seeds.end - seeds.start;
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(threads);
        for _ in 0..threads {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    // Nobody listens any more when an episode could not be taken.
                    if index >= count || sender.send((index, task.demonstrate(seeds.start + index))).is_err()
                    {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let (mut early, mut due) = (BTreeMap::new(), 0);
        for (index, episode) in receiver {
            finished();
            early.insert(index, episode);
            while let Some(episode) = early.remove(&due) {
                take(episode)?;
                due += 1;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use nudge_sim::push_t::PushTConfig;

    use super::*;

    fn few_steps() -> TaskConfig {
        TaskConfig::PushT(PushTConfig { max_steps: 3, ..PushTConfig::default() })
    }

    #[test]
    fn episodes_come_in_the_order_of_seeds_whatever_the_threads() {
        let episodes = |threads: usize| {
            let mut taken = Vec::new();
            let mut take = |episode| {
                taken.push(episode);
                Ok(())
            };
            demonstrate(&few_steps(), 5..9, threads, &|| {}, &mut take).unwrap();
            taken
        };
        let one = episodes(1);
        let seeds: Vec<_> = one.iter().map(|episode| episode.seed).collect();
        assert_eq!(seeds, [Some(5), Some(6), Some(7), Some(8)]);
        assert_eq!(one, episodes(3));
    }

    #[test]
    fn the_first_failure_ends_it() {
        let mut taken = 0;
        let mut take = |_| {
            taken += 1;
            anyhow::bail!("the disk is full")
        };
        let result = demonstrate(&few_steps(), 0..8, 2, &|| {}, &mut take);
        assert!(result.is_err() && taken == 1);
    }
}
