//! Certificates and keys in PEM files, which can be read again while the gateway runs.

use std::{
    error::Error,
    fmt::Display,
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::SystemTime,
};

use tower_fanout::layers::config::ConfigError;
use tower_fanout_http::{
    client::{ClientTlsConfig, Identity},
    server::ServerTls,
};

use super::{
    certificate::Validity,
    reader::ValueReader,
    value::{cannot_read, read_file},
};

type BoxError = Box<dyn Error + Send + Sync>;

/// The step after the files of a key were read: puts their contents into use.
///
/// Returns an error if the contents are invalid. What is in use then stays in use.
pub(crate) type Replacement<'a> = Box<dyn FnOnce() -> Result<(), BoxError> + 'a>;

/// A file, and the key in the configuration that names it, such as `server.tls.cert_file`.
#[derive(Clone, Debug)]
pub(crate) struct NamedFile {
    key: String,
    path: PathBuf,
}

impl NamedFile {
    /// Returns the file that the key at `reader` names, or `None` after reporting an error.
    pub(super) fn new(reader: &ValueReader<'_>) -> Option<Self> {
        Some(Self {
            key: reader.path.clone(),
            path: reader.file()?,
        })
    }

    pub(super) fn read(&self) -> Result<Vec<u8>, BoxError> {
        fs::read(&self.path)
            .map_err(|error| self.error(cannot_read(&self.path.display().to_string(), &error)))
    }

    /// Returns an error that names the key.
    pub(super) fn error(&self, message: impl Display) -> BoxError {
        format!("{}: {message}", self.key).into()
    }
}

/// A file with certificates in PEM format. Clones share the validity.
#[derive(Clone, Debug)]
pub(crate) struct CertFile {
    file: NamedFile,
    kind: CertKind,
    /// End of the validity in seconds since 1970, as of the last load. 0 if it is not known.
    not_after: Arc<AtomicI64>,
}

/// Use of the certificates in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CertKind {
    /// One chain. Each certificate in it must be valid.
    Chain,
    /// A set of CA certificates. One of them must be valid.
    Authorities,
}

impl CertFile {
    /// Loads the file that the key at `reader` names. Warns if its certificates are not valid now. Returns
    /// `None` after reporting an error.
    pub(super) fn load(reader: &ValueReader<'_>, kind: CertKind) -> Option<(Self, Vec<u8>)> {
        let pem = read_file(reader)?;
        let this = Self {
            file: NamedFile::new(reader)?,
            kind,
            not_after: Arc::default(),
        };
        if let Some(warning) = this.note_validity(&pem) {
            reader.warning("certificate_validity", warning, "renew the certificate");
        }
        Some((this, pem))
    }

    /// Loads the CA certificates of the optional key `key` of the map at `reader`. Returns `None` after reporting an error:
    /// an unreadable file must not count as a missing key, which trusts other CAs, or every client.
    pub(super) fn load_authorities(
        reader: &ValueReader<'_>,
        key: &str,
    ) -> Option<Option<(Self, Vec<u8>)>> {
        if !reader.has(key) {
            return Some(None);
        }
        Self::load(&reader.at(key), CertKind::Authorities).map(Some)
    }

    /// Returns the key in the configuration that names the file.
    pub(crate) fn key(&self) -> &str {
        &self.file.key
    }

    /// Returns the time at which the certificates expire, in seconds since 1970. `None` if it is not known.
    pub(crate) fn expiry(&self) -> Option<i64> {
        let not_after = self.not_after.load(Ordering::Relaxed);
        (not_after != 0).then_some(not_after)
    }

    /// Logs a warning if the certificates in `pem`, which are in use from now on, are not valid now.
    fn accept(&self, pem: &[u8]) {
        if let Some(warning) = self.note_validity(pem) {
            tracing::warn!(key = self.file.key, "{warning}");
        }
    }

    /// Stores the end of the validity. Returns a warning if the certificates are not valid now.
    fn note_validity(&self, pem: &[u8]) -> Option<String> {
        let validity = Validity::of(pem, self.kind)?;
        self.not_after.store(validity.not_after, Ordering::Relaxed);
        validity.warning(SystemTime::now())
    }
}

/// A certificate chain and its private key, each in a file.
#[derive(Clone, Debug)]
pub(crate) struct PairFiles {
    cert: CertFile,
    key: NamedFile,
}

impl PairFiles {
    /// Loads the files that the keys at `cert` and `key` name. Returns the files, the chain and the key, or
    /// `None` after reporting an error.
    pub(super) fn load(
        cert: &ValueReader<'_>,
        key: &ValueReader<'_>,
    ) -> Option<(Self, Vec<u8>, Vec<u8>)> {
        let (chain, secret) = (CertFile::load(cert, CertKind::Chain), read_file(key));
        let ((file, chain), secret) = (chain?, secret?);
        match ServerTls::new(&chain, &secret) {
            Ok(_) => {
                let key = NamedFile::new(key)?;
                return Some((Self { cert: file, key }, chain, secret));
            }
            Err(error) if error.field() == "chain" => cert.error("invalid", error.message()),
            Err(error) => key.error("invalid", error.message()),
        }
        None
    }

    /// Reads the chain and the key, which must be valid and belong together.
    fn read(&self) -> Result<(Vec<u8>, Vec<u8>), BoxError> {
        let (chain, key) = (self.cert.file.read()?, self.key.read()?);
        match ServerTls::new(&chain, &key) {
            Ok(_) => Ok((chain, key)),
            Err(error) if error.field() == "chain" => Err(self.cert.file.error(error.message())),
            Err(error) => Err(self.key.error(error.message())),
        }
    }
}

/// The server certificate, the client CAs, and the files that they are loaded from.
#[derive(Clone, Debug)]
pub(crate) struct ReloadableCert {
    pub(super) tls: ServerTls,
    pub(super) pair: PairFiles,
    pub(super) clients: Option<CertFile>,
}

impl ReloadableCert {
    /// Reads the files. After the replacement, new connections use the new certificate and the new CAs.
    ///
    /// # Errors
    /// Returns an error if a file is unreadable or invalid.
    pub(crate) fn read(&self) -> Result<Replacement<'_>, BoxError> {
        let (chain, key) = self.pair.read()?;
        let clients = self.clients.as_ref();
        let clients = clients
            .map(|clients| Ok::<_, BoxError>((clients, clients.file.read()?)))
            .transpose()?;
        let new = match &clients {
            None => ServerTls::new(&chain, &key)?,
            Some((clients, pem)) => ServerTls::with_client_authority(&chain, &key, pem)
                .map_err(|error| clients.file.error(error.message()))?,
        };
        Ok(Box::new(move || {
            self.tls.replace(&new);
            self.pair.cert.accept(&chain);
            if let Some((clients, pem)) = clients {
                clients.accept(&pem);
            }
            Ok(())
        }))
    }

    /// Returns the files with certificates.
    pub(crate) fn files(&self) -> impl Iterator<Item = &CertFile> {
        [&self.pair.cert].into_iter().chain(&self.clients)
    }
}

/// The CAs and the client certificate for a service, and the files that they are loaded from.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientTlsFiles {
    pub(super) ca: Option<CertFile>,
    pub(super) pair: Option<PairFiles>,
}

impl ClientTlsFiles {
    /// Returns `true` if no file is configured.
    pub(crate) const fn is_empty(&self) -> bool {
        self.ca.is_none() && self.pair.is_none()
    }

    /// Reads the files. The replacement gives `current` with their contents to `replace`.
    ///
    /// # Errors
    /// Returns an error if a file is unreadable, or a certificate and its key are invalid.
    pub(crate) fn read<'a>(
        &'a self,
        mut current: ClientTlsConfig,
        replace: impl FnOnce(ClientTlsConfig) -> Result<(), ConfigError> + 'a,
    ) -> Result<Replacement<'a>, BoxError> {
        let ca = self.ca.as_ref();
        let ca = ca
            .map(|ca| Ok::<_, BoxError>((ca, ca.file.read()?)))
            .transpose()?;
        let pair = self.pair.as_ref();
        let pair = pair
            .map(|pair| Ok::<_, BoxError>((pair, pair.read()?)))
            .transpose()?;
        if let Some((_, pem)) = &ca {
            current.ca = Some(pem.clone());
        }
        if let Some((_, (chain, key))) = &pair {
            current.identity = Some(Identity::new(chain.clone(), key.clone()));
        }
        Ok(Box::new(move || {
            replace(current).map_err(|error| match &ca {
                Some((ca, _)) if error.field() == "tls.ca" => ca.file.error(error.message()),
                _ => error.into(),
            })?;
            if let Some((ca, pem)) = ca {
                ca.accept(&pem);
            }
            if let Some((pair, (chain, _))) = pair {
                pair.cert.accept(&chain);
            }
            Ok(())
        }))
    }

    /// Returns the files with certificates.
    pub(crate) fn files(&self) -> impl Iterator<Item = &CertFile> {
        let chain = self.pair.iter().map(|pair| &pair.cert);
        self.ca.iter().chain(chain)
    }
}
