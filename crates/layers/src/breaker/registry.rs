//! Breakers by the names of what they protect.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::{config::BreakerConfig, handle::Handle};
use crate::config::{ConfigError, Validate};

/// Breakers by the names of what they protect, to share one among several layers and to look at
/// them all. Clones are the same registry.
///
/// ```
/// use tower_fanout_layers::{BreakerConfig, BreakerLayer, ClassifyResult, breaker::{Registry, State}};
///
/// let breakers = Registry::new();
/// let users = breakers.get_or_insert("users", BreakerConfig::new()).unwrap();
/// let layer = BreakerLayer::shared(users, ClassifyResult);
/// breakers.get("users").unwrap().disable();
/// assert_eq!(layer.handle().state(), State::Disabled);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Registry(Arc<RwLock<BTreeMap<Box<str>, Handle>>>);

impl Registry {
    /// No breaker yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The breaker called `name`; if there is none, it is made by `config`.
    ///
    /// # Errors
    /// Returns the first error of `config`.
    pub fn get_or_insert(&self, name: &str, config: BreakerConfig) -> Result<Handle, ConfigError> {
        config.validate()?;
        let mut breakers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let breaker = breakers
            .entry(name.into())
            .or_insert_with(|| Handle::new(name, config));
        Ok(breaker.clone())
    }

    /// The breaker called `name`, if there is one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Handle> {
        self.read(|breakers| breakers.get(name).cloned())
    }

    /// All breakers, by the order of their names.
    #[must_use]
    pub fn all(&self) -> Vec<Handle> {
        self.read(|breakers| breakers.values().cloned().collect())
    }

    fn read<T>(&self, read: impl FnOnce(&BTreeMap<Box<str>, Handle>) -> T) -> T {
        read(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}
