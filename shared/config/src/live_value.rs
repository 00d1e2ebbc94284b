//! A value that a reload replaces while others read it.

use std::sync::Arc;

use arc_swap::ArcSwap;

/// A shared value. A reader takes no lock and sees either the whole old value or the whole new one.
/// A clone is another handle to the same value.
#[derive(Debug)]
pub struct LiveValue<T>(Arc<ArcSwap<T>>);

impl<T> LiveValue<T> {
    /// A value in force.
    pub fn new(value: T) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(value)))
    }

    /// The value in force now. A caller that needs one consistent value keeps the result.
    pub fn load(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Reads the value in force, for a moment. Cheaper than [`LiveValue::load`].
    pub fn read<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        read(&self.0.load())
    }

    /// Puts another value in force.
    pub fn replace(&self, value: T) {
        self.0.store(Arc::new(value));
    }
}

impl<T> Clone for LiveValue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
