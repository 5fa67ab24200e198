//! Files that are read again while the gateway runs: certificates, CAs, and keys for tokens.

use std::{
    collections::HashMap,
    error::Error,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use metrics::gauge;
use tokio::{signal::unix::Signal, sync::watch, time::timeout};

use crate::{
    auth::Auth,
    backend::Backend,
    config::{CertFile, ClientTlsFiles, ReloadableCert, Replacement},
};

/// Time after which the files of one key are logged as slow.
const SLOW: Duration = Duration::from_secs(5);

type BoxError = Box<dyn Error + Send + Sync>;

/// Everything that uses the contents of files named in the configuration. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct LoadedFiles {
    certificate: Option<ReloadableCert>,
    backends: Vec<Arc<Backend>>,
    auth: Auth,
    newest: Arc<Newest>,
}

/// Numbers of the newest reloads, by key, that have read the files of the key.
#[derive(Debug, Default)]
struct Newest(Mutex<HashMap<String, u64>>);

impl Newest {
    /// Replaces the contents of the files of `key`, which `read` reads. Returns `None` if a reload with a higher
    /// number than `reload` has read them meanwhile: what this one has read may be older.
    fn replace<'a>(
        &self,
        reload: u64,
        key: &str,
        read: impl FnOnce() -> Result<Replacement<'a>, BoxError>,
    ) -> Option<Result<(), BoxError>> {
        let replacement = read();
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = newest.entry(key.to_owned()).or_default();
        if reload < *newest {
            return None;
        }
        *newest = reload;
        // Within the lock, so that the last one to replace is the newest.
        Some(replacement.and_then(|replace| replace()))
    }
}

impl LoadedFiles {
    /// Collects the users of files.
    #[must_use]
    pub(crate) fn new(
        certificate: Option<ReloadableCert>,
        backends: &[Arc<Backend>],
        auth: &Auth,
    ) -> Self {
        Self {
            certificate,
            backends: backends.to_vec(),
            auth: auth.clone(),
            newest: Arc::default(),
        }
    }

    /// Reads the files again at each of `hangups`, one reload at a time. Those that arrive during a reload
    /// cause one more. It waits for the end of the reload, but not while a read hangs. What a read that hung
    /// returns after a later reload is discarded.
    pub(crate) async fn reload_at(self, mut hangups: Signal) {
        let mut hangup = hangups.recv().await;
        for number in 1.. {
            if hangup.is_none() {
                return;
            }
            let files = self.clone();
            let (begin, current) = watch::channel(String::new());
            // A thread of its own and not a blocking task, because the runtime waits for those when it stops.
            let thread = thread::Builder::new().name("reload".into());
            let next = match thread.spawn(move || files.reload(number, &begin)) {
                Ok(_) => ended(current, warn_of_slow, hangups.recv()).await,
                Err(error) => {
                    tracing::warn!(%error, "SIGHUP ignored, cannot start a thread");
                    None
                }
            };
            hangup = match next {
                Some(hangup) => hangup,
                None => hangups.recv().await,
            };
        }
    }

    /// Reads all files again and logs what became of each. A file that is unreadable or invalid changes
    /// nothing: its user keeps the current contents. Sends each key to `begin` before its files are read.
    fn reload(&self, number: u64, begin: &watch::Sender<String>) {
        let begin = |key: String| {
            begin.send_replace(key.clone());
            key
        };
        let mut none = true;
        if let Some(certificate) = &self.certificate {
            none = false;
            let key = begin("server.tls".into());
            let reloaded = self.newest.replace(number, &key, || certificate.read());
            log_certificate(&key, reloaded);
        }
        for backend in self
            .backends
            .iter()
            .filter(|backend| !backend.tls_files().is_empty())
        {
            none = false;
            let key = begin(format!("downstreams.{}.tls", backend.name));
            let reloaded = self.newest.replace(number, &key, || backend.read_tls());
            log_certificate(&key, reloaded);
        }
        for (name, issuer) in self.auth.issuers().filter(|(_, issuer)| issuer.has_files()) {
            none = false;
            let key = begin(format!("auth.jwt.{name}.keys"));
            let reloaded = self.newest.replace(number, &key, || issuer.read());
            log_keys(&key, reloaded);
        }
        if none {
            tracing::info!("SIGHUP ignored, the configuration names no certificate or key file");
        }
    }

    /// Updates the gauges with the times at which certificates expire.
    pub(crate) fn measure(&self) {
        let backends = self.backends.iter().map(|backend| backend.tls_files());
        let issuers = self.auth.issuers().flat_map(|(_, issuer)| issuer.files());
        let server = self.certificate.iter().flat_map(ReloadableCert::files);
        let files = server
            .chain(backends.flat_map(ClientTlsFiles::files))
            .chain(issuers);
        files.for_each(measure_expiry);
    }
}

/// Waits for the end of a reload, when the sender of `current` is dropped. Calls `slow` once for each key
/// whose files take longer than [`SLOW`]. While one does, the output of `hangup` ends the wait and is returned.
async fn ended<T>(
    mut current: watch::Receiver<String>,
    slow: impl Fn(&str),
    hangup: impl Future<Output = T>,
) -> Option<T> {
    let mut hangup = pin!(hangup);
    loop {
        let next = match timeout(SLOW, current.changed()).await {
            Ok(next) => next,
            Err(_) => {
                slow(&current.borrow());
                tokio::select! {
                    biased;
                    next = current.changed() => next,
                    output = &mut hangup => return Some(output),
                }
            }
        };
        if next.is_err() {
            return None;
        }
    }
}

fn warn_of_slow(key: &str) {
    tracing::warn!(key, "reload still waits for a file of this key");
}

fn measure_expiry(file: &CertFile) {
    if let Some(expiry) = file.expiry() {
        let key = file.key().to_owned();
        // The seconds of the year 9999 are exact in a float.
        gauge!("fanout_certificate_expiry_timestamp_seconds", "key" => key).set(expiry as f64);
    }
}

fn log_certificate(key: &str, reloaded: Option<Result<(), BoxError>>) {
    match reloaded {
        Some(Ok(())) => tracing::info!(key, "certificate reloaded"),
        Some(Err(error)) => {
            tracing::warn!(key, %error, "certificate reload failed, keeping the current certificate");
        }
        None => log_outdated(key),
    }
}

fn log_keys(key: &str, reloaded: Option<Result<(), BoxError>>) {
    match reloaded {
        Some(Ok(())) => tracing::info!(key, "keys reloaded"),
        Some(Err(error)) => {
            tracing::warn!(key, %error, "key reload failed, keeping the current keys");
        }
        None => log_outdated(key),
    }
}

fn log_outdated(key: &str) {
    tracing::warn!(
        key,
        "reload discarded, a later one has read the files already"
    );
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn fault_j24_discards_what_a_read_that_hung_returns_after_a_later_reload() {
        let (newest, current) = (Newest::default(), RefCell::new("old"));
        let in_use = &current;
        let use_contents = |contents| -> Result<Replacement<'_>, BoxError> {
            Ok(Box::new(move || {
                in_use.replace(contents);
                Ok(())
            }))
        };
        let hung = newest.replace(1, "server.tls", || {
            let later = newest.replace(2, "server.tls", || use_contents("new"));
            assert!(later.unwrap().is_ok());
            use_contents("outdated")
        });
        assert!(hung.is_none());
        assert_eq!(*current.borrow(), "new");
        // A later reload that fails counts too: its user keeps what was in use then.
        let hung = newest.replace(3, "server.tls", || {
            let later = newest.replace(4, "server.tls", || Err("unreadable".into()));
            assert!(later.unwrap().is_err());
            use_contents("outdated")
        });
        assert!(hung.is_none());
        // Each key has its own number.
        let other = newest.replace(3, "auth.jwt.main.keys", || use_contents("key"));
        assert!(other.unwrap().is_ok());
        let next = newest.replace(5, "server.tls", || use_contents("next"));
        assert!(next.unwrap().is_ok());
        assert_eq!(*current.borrow(), "next");
    }

    #[tokio::test(start_paused = true)]
    async fn fault_j24_warns_once_of_each_key_whose_files_hang() {
        let (begin, current) = watch::channel(String::new());
        let reload = async move {
            for (key, seconds) in [("fast", 4), ("hung", 60), ("slow", 6), ("last", 4)] {
                begin.send_replace(key.into());
                tokio::time::sleep(Duration::from_secs(seconds)).await;
            }
        };
        let warned = RefCell::new(Vec::new());
        let slow = |key: &str| warned.borrow_mut().push(key.to_owned());
        let never = std::future::pending::<()>();
        let (ended, ()) = tokio::join!(ended(current, slow, never), reload);
        assert_eq!(ended, None);
        assert_eq!(*warned.borrow(), ["hung", "slow"]);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_j24_a_further_sighup_does_not_wait_for_a_read_that_hangs() {
        let (begin, current) = watch::channel(String::new());
        begin.send_replace("hung".into());
        let hangup = tokio::time::sleep(Duration::from_secs(20));
        assert_eq!(ended(current.clone(), |_| {}, hangup).await, Some(()));
        // A reload that does not hang is awaited.
        let reload = async move {
            tokio::time::sleep(Duration::from_secs(4)).await;
            drop(begin);
        };
        let (ended, ()) = tokio::join!(ended(current, |_| {}, async {}), reload);
        assert_eq!(ended, None);
    }
}
