//! Files that are read again while the gateway runs: certificates, CAs, and keys for tokens.

use std::{error::Error, sync::Arc};

use metrics::gauge;

use crate::{
    auth::Auth,
    backend::Backend,
    config::{CertFile, ClientTlsFiles, ReloadableCert},
};

type BoxError = Box<dyn Error + Send + Sync>;

/// Everything that uses the contents of files named in the configuration. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct LoadedFiles {
    certificate: Option<ReloadableCert>,
    backends: Vec<Arc<Backend>>,
    auth: Auth,
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
        }
    }

    /// Reads all files again and logs what became of each. A file that is unreadable or invalid changes
    /// nothing: its user keeps the current contents.
    pub(crate) fn reload(&self) {
        let mut none = true;
        if let Some(certificate) = &self.certificate {
            none = false;
            log_certificate("server.tls", certificate.reload());
        }
        for backend in self
            .backends
            .iter()
            .filter(|backend| !backend.tls_files().is_empty())
        {
            none = false;
            log_certificate(
                &format!("downstreams.{}.tls", backend.name),
                backend.reload_tls(),
            );
        }
        for (name, issuer) in self.auth.issuers().filter(|(_, issuer)| issuer.has_files()) {
            none = false;
            log_keys(&format!("auth.jwt.{name}.keys"), issuer.reload());
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

fn measure_expiry(file: &CertFile) {
    if let Some(expiry) = file.expiry() {
        let key = file.key().to_owned();
        // The seconds of the year 9999 are exact in a float.
        gauge!("fanout_certificate_expiry_timestamp_seconds", "key" => key).set(expiry as f64);
    }
}

fn log_certificate(key: &str, reloaded: Result<(), BoxError>) {
    match reloaded {
        Ok(()) => tracing::info!(key, "certificate reloaded"),
        Err(error) => {
            tracing::warn!(key, %error, "certificate reload failed, keeping the current certificate");
        }
    }
}

fn log_keys(key: &str, reloaded: Result<(), BoxError>) {
    match reloaded {
        Ok(()) => tracing::info!(key, "keys reloaded"),
        Err(error) => tracing::warn!(key, %error, "key reload failed, keeping the current keys"),
    }
}
