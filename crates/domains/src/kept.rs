//! What was looked up in the store, until anything there changes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use freestyle_store::Store;
use tokio::sync::watch;

/// Values by a name.
pub(crate) struct Kept<V> {
    most: usize,
    memory: Mutex<Memory<V>>,
}

struct Memory<V> {
    /// Sees a change after everything that may change a value.
    changes: watch::Receiver<()>,
    /// Counts how often all was forgotten.
    turn: u64,
    values: HashMap<String, V>,
}

/// From when on something is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn(u64);

impl<V: Clone> Kept<V> {
    /// A memory for so many values.
    pub(crate) fn new(store: &Store, most: usize) -> Self {
        let memory = Memory { changes: store.rights(), turn: 0, values: HashMap::new() };
        Self { most, memory: Mutex::new(memory) }
    }

    /// What is kept of a name; otherwise what [`Kept::keep`] wants to know once it was looked up.
    pub(crate) fn get(&self, name: &str) -> Result<V, Turn> {
        let mut memory = self.memory();
        let turn = memory.refresh();
        memory.values.get(name).cloned().ok_or(turn)
    }

    /// Keeps what was looked up, unless something has changed since: it may be how it was before.
    pub(crate) fn keep(&self, turn: Turn, name: &str, value: V) {
        let mut memory = self.memory();
        if memory.refresh() == turn {
            if memory.values.len() >= self.most {
                memory.values.clear();
            }
            memory.values.insert(name.to_owned(), value);
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory<V>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Memory<V> {
    /// Forgets everything if anything has changed. Answers the turn that this is.
    fn refresh(&mut self) -> Turn {
        // An error means that the store is gone; then nothing can change any more.
        if self.changes.has_changed().unwrap_or(false) {
            self.changes.mark_unchanged();
            self.values.clear();
            self.turn += 1;
        }
        Turn(self.turn)
    }
}
