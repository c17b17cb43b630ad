//! Certificates and keys in PEM: what is in a file, or why it is of no use.

#[cfg(test)]
use std::cell::Cell;
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    sign::CertifiedKey,
};
use zeroize::Zeroizing;

use crate::error::{Error, Result, plain};

/// Where PEM comes from.
#[derive(Clone)]
pub(super) enum Pem {
    File(PathBuf),
    /// Wiped when nobody needs them any more, since they may be a key.
    Bytes(Arc<Zeroizing<Vec<u8>>>),
}

impl Pem {
    pub(super) fn bytes(bytes: &[u8]) -> Self {
        Self::Bytes(Arc::new(bytes.to_vec().into()))
    }

    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Bytes(_) => None,
        }
    }

    /// A path that is none, and must not be shown.
    fn is_mistaken(&self) -> bool {
        self.file()
            .is_some_and(|path| contains(path.as_os_str().as_encoded_bytes(), "-----BEGIN"))
    }

    fn read(&self) -> Result<Arc<Zeroizing<Vec<u8>>>> {
        let bytes = match self {
            Self::File(_) if self.is_mistaken() => {
                return Err(Error::config(
                    "what should be the path of a file is PEM itself, which `root_pem` and `identity_pem` take",
                ));
            }
            Self::File(path) => {
                let read = read_file(path);
                let read = read.map_err(|error| Error::config(format!("{self} cannot be read: {}", plain(&error))))?;
                Arc::new(read.into())
            }
            Self::Bytes(bytes) => Arc::clone(bytes),
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(Error::config(format!("{self} is empty")));
        }
        Ok(bytes)
    }

    /// For what is missing: whether something else is there instead.
    fn missing(&self, bytes: &[u8], what: &str) -> Error {
        let hint = match bytes {
            [0x30, ..] => ": it is binary, as DER and PKCS#12 are, and must be PEM",
            [0xfe, 0xed, 0xfe, 0xed, ..] => ": it is a keystore of Java's (JKS), and must be PEM",
            _ if !contains(bytes, "-----BEGIN ") => ": it is not PEM",
            _ => "",
        };
        Error::config(format!("there is no {what} in {self}{hint}"))
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) if !self.is_mistaken() => path.display().fmt(f),
            Self::File(_) => f.write_str("a path that is PEM itself"),
            Self::Bytes(_) => f.write_str("the PEM that was given"),
        }
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) if !self.is_mistaken() => path.fmt(f),
            Self::File(_) | Self::Bytes(_) => f.write_str("PEM"),
        }
    }
}

#[cfg(test)]
thread_local! {
    /// Files cannot be read, though they are there and good.
    pub(super) static TROUBLE: Cell<bool> = const { Cell::new(false) };
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    #[cfg(test)]
    if TROUBLE.get() {
        return Err(io::Error::other("too many open files"));
    }
    fs::read(path)
}

/// What tells that a file is another one than before, or was written to. Permissions count: what could not be read may be
/// readable now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    #[cfg(unix)]
    node: (u64, u64, i64, i64),
}

impl Stamp {
    /// None if there is no such file.
    pub(super) fn of(path: &Path) -> Option<Self> {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            #[cfg(unix)]
            node: (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// Those that are of no use are left out with a warning, as long as there are others: lists of whole systems have such.
pub(super) fn add_roots(store: &mut RootCertStore, pem: &Pem) -> Result<()> {
    let mut last = None;
    let mut added = 0;
    for (number, certificate) in (1..).zip(certificates(pem)?) {
        match store.add(certificate) {
            Ok(()) => added += 1,
            Err(error) => {
                let error = Error::config(format!(
                    "certificate {number} in {pem} is no root: {}",
                    readable(&error)
                ));
                last = Some(error);
            }
        }
    }
    match last {
        Some(error) if added == 0 => Err(error),
        Some(error) => {
            log::warn!("{error}");
            Ok(())
        }
        None => Ok(()),
    }
}

#[cfg(feature = "tls-platform-roots")]
pub(super) fn add_platform_roots(store: &mut RootCertStore) -> Result<()> {
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = store.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(());
    }
    let why = found
        .errors
        .first()
        .map_or("it has none".to_owned(), ToString::to_string);
    Err(Error::config(format!(
        "this machine's trusted certificates cannot be used: {why}"
    )))
}

/// A certificate with those that lead to its root, and the key to it.
pub(super) fn identity(chain: &Pem, key: &Pem, provider: &CryptoProvider) -> Result<CertifiedKey> {
    let certificates = certificates(chain)?;
    let private = private_key(key)?;
    CertifiedKey::from_der(certificates, private, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => Error::config(format!(
            "the key in {key} does not belong to the first certificate in {chain}"
        )),
        rustls::Error::InvalidCertificate(_) => Error::config(format!(
            "the first certificate in {chain} cannot be used: {}",
            readable(&error)
        )),
        error => Error::config(format!("the key in {key} cannot be used: {}", readable(&error))),
    })
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = pem.read()?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if found.is_empty() => Err(pem.missing(&bytes, "certificate")),
        Ok(found) => Ok(found),
        Err(error) => Err(damaged(pem, &error)),
    }
}

fn private_key(pem: &Pem) -> Result<PrivateKeyDer<'static>> {
    let bytes = pem.read()?;
    if contains(&bytes, "BEGIN ENCRYPTED PRIVATE KEY") || contains(&bytes, "Proc-Type: 4,ENCRYPTED") {
        let message = format!("the key in {pem} is encrypted, which is not supported: decrypt it with `openssl pkey`");
        return Err(Error::config(message));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => pem.missing(&bytes, "private key"),
        error => damaged(pem, &error),
    })
}

fn damaged(pem: &Pem, error: &pem::Error) -> Error {
    let why = match error {
        pem::Error::MissingSectionEnd { .. } => "it is cut off in the middle".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a line that begins a section is malformed".to_owned(),
        // What it says of base64 may hold parts of a key.
        pem::Error::Base64Decode(_) => "what it holds is not base64".to_owned(),
        other => other.to_string(),
    };
    Error::config(format!("{pem} is damaged: {why}"))
}

fn readable(error: &rustls::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("invalid peer certificate: ")
        .unwrap_or(&text)
        .to_owned()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
