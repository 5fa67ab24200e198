//! Certificates and keys in PEM files, which can be read again while the gateway runs.

use std::{
    error::Error,
    fs, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::SystemTime,
};

use tower_fanout_http::{
    client::{ClientTlsConfig, Identity},
    server::ServerTls,
};

use super::{certificate::Validity, reader::ValueReader, value::file};

type BoxError = Box<dyn Error + Send + Sync>;

/// A file with certificates in PEM format. Clones share the validity.
#[derive(Clone, Debug)]
pub(crate) struct CertFile {
    /// The key in the configuration that names the file, such as `server.tls.cert_file`.
    key: String,
    path: PathBuf,
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
        let pem = file(reader)?;
        let this = Self {
            key: reader.path.clone(),
            path: reader.text()?.into(),
            kind,
            not_after: Arc::default(),
        };
        if let Some(warning) = this.note_validity(&pem) {
            reader.warning("certificate_validity", warning, "renew the certificate");
        }
        Some((this, pem))
    }

    /// Returns the key in the configuration that names the file.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Returns the time at which the certificates expire, in seconds since 1970. `None` if it is not known.
    pub(crate) fn expiry(&self) -> Option<i64> {
        let not_after = self.not_after.load(Ordering::Relaxed);
        (not_after != 0).then_some(not_after)
    }

    /// Logs a warning if the certificates in `pem`, which are in use from now on, are not valid now.
    fn accept(&self, pem: &[u8]) {
        if let Some(warning) = self.note_validity(pem) {
            tracing::warn!(key = self.key, "{warning}");
        }
    }

    /// Stores the end of the validity. Returns a warning if the certificates are not valid now.
    fn note_validity(&self, pem: &[u8]) -> Option<String> {
        let validity = Validity::of(pem, self.kind)?;
        self.not_after.store(validity.not_after, Ordering::Relaxed);
        validity.warning(SystemTime::now())
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        fs::read(&self.path).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("{}: cannot read the file: {error}", self.key),
            )
        })
    }
}

/// A certificate chain and its private key, each in a file.
#[derive(Clone, Debug)]
pub(crate) struct PairFiles {
    cert: CertFile,
    key: PathBuf,
}

impl PairFiles {
    /// Loads the files that the keys at `cert` and `key` name. Returns the files, the chain and the key, or
    /// `None` after reporting an error.
    pub(super) fn load(
        cert: &ValueReader<'_>,
        key: &ValueReader<'_>,
    ) -> Option<(Self, Vec<u8>, Vec<u8>)> {
        let (chain, secret) = (CertFile::load(cert, CertKind::Chain), file(key));
        let ((file, chain), secret) = (chain?, secret?);
        match ServerTls::new(&chain, &secret) {
            Ok(_) => {
                let key = key.text()?.into();
                return Some((Self { cert: file, key }, chain, secret));
            }
            Err(error) if error.field() == "chain" => cert.error("invalid", error.message()),
            Err(error) => key.error("invalid", error.message()),
        }
        None
    }

    fn read(&self) -> Result<(Vec<u8>, Vec<u8>), BoxError> {
        let chain = self.cert.read()?;
        let key =
            fs::read(&self.key).map_err(|error| format!("cannot read the key file: {error}"))?;
        Ok((chain, key))
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
    /// Reloads the files. New connections use the new certificate and the new CAs.
    ///
    /// # Errors
    /// Returns an error if a file is unreadable or invalid. What is in use then stays in use.
    pub(crate) fn reload(&self) -> Result<(), BoxError> {
        let (chain, key) = self.pair.read()?;
        let clients = self.clients.as_ref();
        let clients = clients
            .map(|file| Ok::<_, BoxError>((file, file.read()?)))
            .transpose()?;
        self.tls.replace(&match &clients {
            None => ServerTls::new(&chain, &key)?,
            Some((_, pem)) => ServerTls::with_client_authority(&chain, &key, pem)?,
        });
        self.pair.cert.accept(&chain);
        if let Some((file, pem)) = clients {
            file.accept(&pem);
        }
        Ok(())
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

    /// Reads the files again, and gives `current` with their contents to `replace`.
    ///
    /// # Errors
    /// Returns an error if a file is unreadable, or the error of `replace`.
    pub(crate) fn reload<E: Into<BoxError>>(
        &self,
        mut current: ClientTlsConfig,
        replace: impl FnOnce(ClientTlsConfig) -> Result<(), E>,
    ) -> Result<(), BoxError> {
        let ca = self.ca.as_ref();
        let ca = ca
            .map(|file| Ok::<_, BoxError>((file, file.read()?)))
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
        replace(current).map_err(Into::into)?;
        if let Some((file, pem)) = ca {
            file.accept(&pem);
        }
        if let Some((pair, (chain, _))) = pair {
            pair.cert.accept(&chain);
        }
        Ok(())
    }

    /// Returns the files with certificates.
    pub(crate) fn files(&self) -> impl Iterator<Item = &CertFile> {
        let chain = self.pair.iter().map(|pair| &pair.cert);
        self.ca.iter().chain(chain)
    }
}
