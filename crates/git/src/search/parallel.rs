//! One request on all processors.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::GitError;
use crate::objects::Reader;

/// Applies `work` to each item, with a reader for each thread, and answers the results in the order
/// of the items. The first error ends it.
pub(super) fn map<T: Sync, R: Send>(
    reader: &Reader<'_>,
    items: &[T],
    work: impl Fn(&Reader<'_>, &T) -> Result<R, GitError> + Sync,
) -> Result<Vec<R>, GitError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len());
    if threads <= 1 {
        return items.iter().map(|item| work(reader, item)).collect();
    }
    let next = AtomicUsize::new(0);
    let run = |reader: Reader<'_>| -> Result<Vec<(usize, R)>, GitError> {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return Ok(done) };
            let result = work(&reader, item);
            if result.is_err() {
                // The others stop too.
                next.store(items.len(), Ordering::Relaxed);
            }
            done.push((at, result?));
        }
    };
    let parts = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..threads).map(|_| reader.another()).collect();
        let run = &run;
        let started: Vec<_> =
            readers.into_iter().map(|reader| scope.spawn(move || run(reader))).collect();
        let ended = started.into_iter().map(|thread| {
            let panicked = |_| Err(GitError::Internal("a search failed".to_owned()));
            thread.join().unwrap_or_else(panicked)
        });
        ended.collect::<Result<Vec<_>, _>>()
    })?;
    let mut results: Vec<_> = parts.into_iter().flatten().collect();
    results.sort_unstable_by_key(|(at, _)| *at);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}
