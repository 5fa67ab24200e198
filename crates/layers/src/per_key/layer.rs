//! [`PerKeyLayer`] and its service, which finds the layer of a request's key in `call`.

use std::{
    fmt,
    hash::Hash,
    task::{self, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

use super::{ByCall, Keyed, PerKeyConfig, RequestKey, Stats, keyed::KeyedLayer, map::Map};
use crate::{
    call::CallKey,
    config::{ConfigError, Validate},
    event::Events,
    sync::Arc,
};

/// The function of [`PerKeyLayer::template_for`].
type Templates<K, L> = Arc<dyn Fn(&K) -> L + Send + Sync>;

/// A layer that has a breaker or a limit of its own for each key. See the [module docs](super).
///
/// All services that the layer makes, and all clones of the layer, share the map of keys.
#[derive(Clone)]
pub struct PerKeyLayer<K, F, L> {
    map: Arc<Map<K, L>>,
    key: F,
    /// The configuration of the layers, and the layer of all keys without an entry.
    template: Arc<L>,
    templates: Option<Templates<K, L>>,
}

impl<K, F, L> PerKeyLayer<K, F, L> {
    /// Creates a layer that gives each key a copy of `template`, with the same configuration and a state of
    /// its own. `key` returns the key of a request.
    ///
    /// The template itself is the layer of the requests for which the map has [no
    /// room](super#a-full-map).
    ///
    /// `key` runs for each request, so a key should be cheap to create, such as a number or an `Arc<str>`. Do not use
    /// a value that shares the buffer of its request, such as an `http::HeaderValue` of a server: its key would keep
    /// the whole head of that request in memory. Copy such a value, and refuse one that is too long: the memory of
    /// the keys themselves is in addition to that of their [states](super#memory).
    ///
    /// # Errors
    /// Returns the first error of `config`.
    pub fn new<Req>(config: PerKeyConfig, template: L, key: F) -> Result<Self, ConfigError>
    where
        F: Fn(&Req) -> K,
    {
        Self::with_key(&config, template, key)
    }

    fn with_key(config: &PerKeyConfig, template: L, key: F) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            map: Arc::new(Map::new(config)),
            key,
            template: Arc::new(template),
            templates: None,
        })
    }

    /// Sets the function that returns the template of a key. Defaults to the template of
    /// [`new`](Self::new) for all keys.
    ///
    /// The function runs when a key has no entry. The new entry has the configuration of the returned
    /// layer, and a state of its own.
    #[must_use]
    pub fn template_for(self, templates: impl Fn(&K) -> L + Send + Sync + 'static) -> Self {
        Self {
            templates: Some(Arc::new(templates)),
            ..self
        }
    }

    /// Adds a sink that hears every event of the layers of all keys, for every call, besides the receivers of the
    /// call. An event has no key.
    ///
    /// Call this method before a clone or a service of the layer exists: limits of keys that were first used through
    /// one do not have the sink, nor do
    /// the templates of [`template_for`](Self::template_for). The breakers of all keys share the sinks of their
    /// template, also those that are added later. Each call of this method adds a sink. See the [module docs of the
    /// events](crate::event).
    #[must_use]
    pub fn events(self, sink: impl Into<Events>) -> Self
    where
        L: Keyed + Clone,
    {
        let template = L::clone(&self.template).events(sink.into());
        Self {
            template: Arc::new(template),
            ..self
        }
    }

    /// Returns the layer of the requests for which the map has [no room](super#a-full-map).
    #[must_use]
    pub fn overflow(&self) -> &L {
        &self.template
    }

    /// Returns the number of keys, and counters of evictions.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.map.stats()
    }
}

impl<L> PerKeyLayer<Option<CallKey>, ByCall, L> {
    /// Creates a layer like [`new`](Self::new), for the key that each call carries:
    /// [`Call::key`](field@crate::Call::key).
    ///
    /// ```
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_fanout_layers::{
    ///     BreakerConfig, BreakerLayer, ClassifyResult, LayerError, PerKeyConfig, PerKeyLayer, WithCall,
    ///     breaker::State,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let breaker = BreakerConfig::new().consecutive_failures(1);
    /// let breaker = BreakerLayer::new("tenants", breaker, ClassifyResult).unwrap();
    /// let layer = PerKeyLayer::by_call(PerKeyConfig::new(), breaker).unwrap();
    /// let service = layer.layer(service_fn(|_: WithCall<u64>| async {
    ///     Err::<(), LayerError>("down".into())
    /// }));
    /// service.oneshot(WithCall::new(7).key("acme")).await.unwrap_err();
    ///
    /// let state = |key| layer.get(&key).map(|breaker| breaker.handle().state());
    /// assert_eq!(state(Some("acme".into())), Some(State::Open));
    /// assert_eq!(state(None), None);
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns the first error of `config`.
    pub fn by_call(config: PerKeyConfig, template: L) -> Result<Self, ConfigError> {
        Self::with_key(&config, template, ByCall)
    }
}

impl<K: Hash + Eq + Clone, F, L: Clone> PerKeyLayer<K, F, L> {
    /// Returns the layer of `key`, for example to read its state. Returns `None` if the key has no entry.
    ///
    /// The key keeps its entry while the returned layer, or a handle of its breaker, exists.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<L> {
        self.map.get(key)
    }

    /// Returns the keys that have an entry, in no particular order.
    #[must_use]
    pub fn keys(&self) -> Vec<K> {
        self.map.keys()
    }
}

impl<S, K, F: Clone, L> Layer<S> for PerKeyLayer<K, F, L> {
    type Service = PerKey<S, K, F, L>;

    fn layer(&self, inner: S) -> Self::Service {
        PerKey {
            layer: Self {
                map: Arc::clone(&self.map),
                key: self.key.clone(),
                template: Arc::clone(&self.template),
                templates: self.templates.clone(),
            },
            inner,
        }
    }
}

impl<K, F, L> fmt::Debug for PerKeyLayer<K, F, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerKeyLayer")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// The service of [`PerKeyLayer`]. Each call passes through the layer of its key.
#[derive(Clone, Debug)]
pub struct PerKey<S, K, F, L> {
    layer: PerKeyLayer<K, F, L>,
    inner: S,
}

impl<S, K, F, L, Req> Service<Req> for PerKey<S, K, F, L>
where
    S: Service<Req>,
    K: Hash + Eq + Clone,
    F: RequestKey<Req, Key = K>,
    L: KeyedLayer<S, Req>,
{
    type Response = L::Response;
    type Error = S::Error;
    type Future = L::Future;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Always ready, because the key of the request, and so its layer, is not known yet. The layer waits
        // for the inner service in its future.
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let PerKeyLayer {
            map,
            key,
            template,
            templates,
        } = &self.layer;
        let make = |key: &K| match templates {
            None => template.fresh(),
            Some(templates) => templates(key).fresh(),
        };
        let own = map.get_or_make(key.key(&request), make);
        let layer = own.as_deref().unwrap_or(template);
        layer.call(&mut self.inner, request)
    }
}
