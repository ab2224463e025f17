//! Values that are kept with a socket, one of each type.
//!
//! A socket owns some once anything is inserted, and shares them with the one that resumes its
//! session.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Values by their types.
#[derive(Default)]
pub(crate) struct Values(Mutex<ByType>);

type ByType = HashMap<TypeId, Box<dyn Any + Send + Sync>>;

impl Values {
    fn lock(&self) -> MutexGuard<'_, ByType> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a value, and gives the one of its type that it replaces.
    pub(crate) fn insert<T: Send + Sync + 'static>(&self, value: T) -> Option<T> {
        let replaced = self.lock().insert(TypeId::of::<T>(), Box::new(value));
        replaced?.downcast().ok().map(|value| *value)
    }

    /// A clone of the value of this type.
    pub(crate) fn get<T: Clone + 'static>(&self) -> Option<T> {
        self.lock().get(&TypeId::of::<T>())?.downcast_ref().cloned()
    }

    /// Takes the value of this type out.
    pub(super) fn remove<T: 'static>(&self) -> Option<T> {
        let removed = self.lock().remove(&TypeId::of::<T>());
        removed?.downcast().ok().map(|value| *value)
    }

    /// Changes the value of this type, if there is one.
    pub(super) fn update<T: 'static, R>(&self, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        let mut values = self.lock();
        values
            .get_mut(&TypeId::of::<T>())?
            .downcast_mut()
            .map(change)
    }

    /// Looks at the value of this type, which is made if it lacks and `or_default` says so.
    pub(super) fn with<T: Default + Send + Sync + 'static, R>(
        &self,
        or_default: bool,
        look: impl FnOnce(&mut T) -> R,
    ) -> Option<R> {
        let mut values = self.lock();
        if or_default {
            values
                .entry(TypeId::of::<T>())
                .or_insert_with(|| Box::new(T::default()));
        }
        values.get_mut(&TypeId::of::<T>())?.downcast_mut().map(look)
    }

    /// Takes all of others over: they count.
    pub(super) fn take_over(&self, others: &Self) {
        let others = std::mem::take(&mut *others.lock());
        self.lock().extend(others);
    }

    /// A clone of the value of this type, which is made if it lacks.
    pub(crate) fn get_or_insert_with<T>(&self, make: impl FnOnce() -> T) -> T
    where
        T: Clone + Send + Sync + 'static,
    {
        let mut values = self.lock();
        let value = values
            .entry(TypeId::of::<T>())
            .or_insert_with(|| Box::new(make()));
        match value.downcast_ref::<T>() {
            Some(value) => value.clone(),
            None => unreachable!("it is kept under its own type"),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Values").field(&self.lock().len()).finish()
    }
}
