//! What is trusted, and who we are to those who ask: certificates, keys, and when they are read again.

mod failures;
mod material;
#[cfg(test)]
pub(crate) mod tests;
mod verifiers;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
};

use parking_lot::Mutex;
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, SupportedProtocolVersion, WantsVerifier,
    client::{ResolvesClientCert, Resumption, WantsClientCert, WebPkiServerVerifier},
    crypto::CryptoProvider,
    pki_types::ServerName,
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};

pub(crate) use failures::Failures;
use material::{Pem, Stamp};
use verifiers::Lenient;

use crate::error::{Error, Result};

/// How connections are encrypted, and who is trusted. Kafka: `security.protocol=SSL` or `SASL_SSL`, and `ssl.*`.
///
/// A broker must have a certificate that leads to one of the roots, is valid now, and names the host as it was dialled.
/// TLS 1.3 and 1.2 are spoken, by [rustls](https://docs.rs/rustls).
///
/// ```no_run
/// # fn main() -> klamm::Result<()> {
/// use klamm::{Client, Tls};
///
/// let tls = Tls::new()
///     .root_file("/etc/kafka/ca.pem")
///     .identity_files("/etc/kafka/client.pem", "/etc/kafka/client.key"); // where brokers ask who we are
/// let client = Client::builder().bootstrap("kafka-1:9093").tls(tls).connect()?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
///
/// | Option | Kafka's name | Default |
/// |---|---|---|
/// | [`root_file`](Self::root_file), [`root_pem`](Self::root_pem) | `ssl.truststore.location`, `ssl.truststore.certificates` | none |
/// | [`public_roots`](Self::public_roots) | – | on while no other root is named |
/// | `platform_roots` (feature `tls-platform-roots`) | – | off |
/// | [`identity_files`](Self::identity_files), [`identity_pem`](Self::identity_pem) | `ssl.keystore.certificate.chain`, `ssl.keystore.key` | none |
/// | [`server_name`](Self::server_name) | – | the host that is dialled |
/// | [`min_version`](Self::min_version) | `ssl.enabled.protocols` | TLS 1.2 |
/// | [`danger_accept_any_server_name`](Self::danger_accept_any_server_name) | `ssl.endpoint.identification.algorithm=` | off |
/// | [`danger_accept_any_certificate`](Self::danger_accept_any_certificate) | – | off |
///
/// **Files** are read when the client connects, and [`Config`](crate::ErrorKind::Config) names the one that is of no use and
/// why. They are looked at again whenever a connection is made: once they have changed, new connections use what is in them
/// now, and those that stand are left alone. So a certificate that is renewed every day needs no restart. While a file cannot
/// be used, as in the middle of being replaced, what was good before is kept, and a warning is logged.
///
/// A certificate that is not accepted, by either side, is [`Authentication`](crate::ErrorKind::Authentication), and says what is
/// wrong with it. It is tried again only as described there: by a client that was believed before. Sessions are not resumed, so that
/// each connection is verified anew.
///
/// Cheap to clone. `Debug` shows where certificates and keys come from, and nothing of what is in them.
#[derive(Clone, Default)]
pub struct Tls {
    settings: Arc<Settings>,
    /// Shared by clones, so that files are read once.
    current: Arc<Mutex<Option<Current>>>,
}

#[derive(Debug, Clone, Default)]
struct Settings {
    roots: Vec<Roots>,
    identity: Option<(Pem, Pem)>,
    server_name: Option<String>,
    min_version: TlsVersion,
    trust: Trust,
}

#[derive(Debug, Clone)]
enum Roots {
    Public,
    #[cfg(feature = "tls-platform-roots")]
    Platform,
    Pem(Pem),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Trust {
    #[default]
    Verified,
    AnyName,
    Anyone,
}

/// What was read, and how the files were that it was read from.
#[derive(Clone)]
struct Current {
    config: Arc<ClientConfig>,
    stamps: Vec<Option<Stamp>>,
    /// How they were when it was last told that they are of no use. They are read again nevertheless: what is in the way may
    /// pass and leave no trace in the files, such as too many that are open.
    told: Option<Vec<Option<Stamp>>>,
}

/// A version of the protocol.
///
/// ```
/// use klamm::{Tls, TlsVersion};
/// let tls = Tls::new().min_version(TlsVersion::Tls13);
/// # drop(tls);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2, of 2008.
    #[default]
    Tls12,
    /// TLS 1.3, of 2018.
    Tls13,
}

impl Tls {
    /// Trusts the public authorities that browsers trust, in a list that is part of the program, until roots are named.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificates in this PEM file, and then only those that are named so. May be called several times. Kafka's
    /// `ssl.truststore.location` with `ssl.truststore.type=PEM`.
    ///
    /// A keystore of Java's is turned into PEM by `keytool -exportcert -rfc -alias … -keystore …`.
    #[must_use]
    pub fn root_file(self, path: impl Into<PathBuf>) -> Self {
        self.trusting(Roots::Pem(Pem::File(path.into())))
    }

    /// The same with what such a file holds. Kafka's `ssl.truststore.certificates`.
    ///
    /// ```
    /// # let from_a_secret_store = || Vec::new();
    /// let tls = klamm::Tls::new().root_pem(from_a_secret_store());
    /// # drop(tls);
    /// ```
    #[must_use]
    pub fn root_pem(self, certificates: impl AsRef<[u8]>) -> Self {
        self.trusting(Roots::Pem(Pem::bytes(certificates.as_ref())))
    }

    /// Trusts whom this machine trusts, and then only those and the others that are named. They are read from where the
    /// system keeps them, or from `SSL_CERT_FILE` and `SSL_CERT_DIR`, once for each `Tls` and whenever files are read anew.
    #[cfg(feature = "tls-platform-roots")]
    #[must_use]
    pub fn platform_roots(self) -> Self {
        self.trusting(Roots::Platform)
    }

    /// Trusts the public authorities beside the roots that are named.
    #[must_use]
    pub fn public_roots(self) -> Self {
        self.trusting(Roots::Public)
    }

    /// Says who this program is, where brokers ask (`ssl.client.auth`): a PEM file with its certificate, followed by those
    /// between it and the root, and one with its key; both may be the same file. The key is in PKCS#8, PKCS#1 or SEC1, and
    /// not encrypted. Kafka's `ssl.keystore.location` with `ssl.keystore.type=PEM`.
    #[must_use]
    pub fn identity_files(self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        let identity = (Pem::File(chain.into()), Pem::File(key.into()));
        self.edit(|settings| settings.identity = Some(identity))
    }

    /// The same with what such files hold. Kafka's `ssl.keystore.certificate.chain` and `ssl.keystore.key`.
    #[must_use]
    pub fn identity_pem(self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        let identity = (Pem::bytes(chain.as_ref()), Pem::bytes(key.as_ref()));
        self.edit(|settings| settings.identity = Some(identity))
    }

    /// The name that every broker's certificate must have, instead of the host that is dialled; it is also what brokers are
    /// told to be looked for (SNI). For certificates that all brokers share, and for tunnels.
    #[must_use]
    pub fn server_name(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.edit(|settings| settings.server_name = Some(name))
    }

    /// The oldest version that is spoken. Default: TLS 1.2.
    #[must_use]
    pub fn min_version(self, version: TlsVersion) -> Self {
        self.edit(|settings| settings.min_version = version)
    }

    /// Accepts a certificate for any name, as long as it leads to a root: whoever has one from the same authority can
    /// pretend to be a broker. Kafka's empty `ssl.endpoint.identification.algorithm`.
    ///
    /// Certificates that name their host only in their common name need it as well: that has not counted since 2000.
    #[must_use]
    pub fn danger_accept_any_server_name(self) -> Self {
        self.edit(|settings| settings.trust = settings.trust.max(Trust::AnyName))
    }

    /// Accepts any certificate: what is sent cannot be read by who merely listens, but everybody on the way can pretend to be
    /// a broker. For trials. Roots that are named beside it are not even read, so mistakes in their files do not show.
    #[must_use]
    pub fn danger_accept_any_certificate(self) -> Self {
        self.edit(|settings| settings.trust = Trust::Anyone)
    }

    /// Reads what there is to read, for the first time.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(name) = &self.settings.server_name {
            server_name(name)?;
        }
        self.client_config().map(drop)
    }

    /// Certificates and keys as they are now, or were when they were last good.
    pub(crate) fn client_config(&self) -> Result<Arc<ClientConfig>> {
        // Before they are read: what changes meanwhile shows the next time.
        let stamps = self.settings.stamps();
        let known = self.current.lock().clone();
        if let Some(known) = known.filter(|known| known.stamps == stamps) {
            return Ok(known.config);
        }
        match self.settings.client_config() {
            Ok(config) => Ok(self.take_over(Arc::new(config), stamps)),
            Err(error) => self.go_on(error, stamps),
        }
    }

    fn take_over(&self, config: Arc<ClientConfig>, stamps: Vec<Option<Stamp>>) -> Arc<ClientConfig> {
        let read = Current {
            config: Arc::clone(&config),
            stamps,
            told: None,
        };
        let before = self.current.lock().replace(read);
        if before.is_some() {
            log::info!("TLS certificates have changed and were read anew");
        }
        config
    }

    /// With what was good before, if anything was.
    fn go_on(&self, error: Error, stamps: Vec<Option<Stamp>>) -> Result<Arc<ClientConfig>> {
        let mut current = self.current.lock();
        let Some(good) = &mut *current else {
            return Err(error);
        };
        let config = Arc::clone(&good.config);
        // Somebody else may have read them meanwhile, or told it.
        let is_known = good.stamps == stamps || good.told.as_ref() == Some(&stamps);
        if !is_known {
            good.told = Some(stamps);
        }
        drop(current);
        if !is_known {
            log::warn!("TLS goes on with the certificates that were read before: {error}");
        }
        Ok(config)
    }

    /// What the certificate of this host must be for.
    pub(crate) fn name_of(&self, host: &str) -> Result<ServerName<'static>> {
        match server_name(self.settings.server_name.as_deref().unwrap_or(host)) {
            // Nothing is made of it.
            Err(_) if self.settings.trust > Trust::Verified => Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into()),
            name => name,
        }
    }

    pub(crate) fn failures(&self) -> Failures {
        Failures {
            has_identity: self.settings.identity.is_some(),
        }
    }

    fn trusting(self, roots: Roots) -> Self {
        self.edit(|settings| settings.roots.push(roots))
    }

    fn edit(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        // What clones have read was read for them.
        self.current = Arc::default();
        self
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &*self.settings;
        f.debug_struct("Tls")
            .field("roots", &settings.roots)
            .field("identity", &settings.identity)
            .field("server_name", &settings.server_name)
            .field("min_version", &settings.min_version)
            .field("trust", &settings.trust)
            .finish()
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(name.to_owned()).map_err(|_| {
        Error::config(format!(
            "no certificate can be for {name:?}, which is no name of a host"
        ))
    })
}

impl Settings {
    fn stamps(&self) -> Vec<Option<Stamp>> {
        let roots = self.roots.iter().filter_map(|roots| match roots {
            Roots::Pem(pem) => Some(pem),
            _ => None,
        });
        let identity = self.identity.iter().flat_map(|(chain, key)| [chain, key]);
        roots.chain(identity).filter_map(Pem::file).map(Stamp::of).collect()
    }

    fn client_config(&self) -> Result<ClientConfig> {
        let provider = Arc::new(provider());
        let versions: &[&SupportedProtocolVersion] = match self.min_version {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder
            .with_protocol_versions(versions)
            .map_err(|error| Error::config(format!("TLS cannot be set up: {error}")))?;
        let builder = self.with_verifier(builder, &provider)?;
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let identity = material::identity(chain, key, &provider)?;
                let identity: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(identity));
                builder.with_client_cert_resolver(identity)
            }
        };
        // Who resumes a session is not verified again: a certificate that has expired since would do for ever.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn with_verifier(
        &self,
        builder: ConfigBuilder<ClientConfig, WantsVerifier>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
        let algorithms = provider.signature_verification_algorithms;
        Ok(match self.trust {
            Trust::Verified => {
                let roots = Arc::new(self.root_store()?);
                let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build();
                builder.with_webpki_verifier(verifier.map_err(|error| Error::config(error.to_string()))?)
            }
            Trust::AnyName => {
                let verifier = Lenient::any_name(self.root_store()?, algorithms);
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
            Trust::Anyone => {
                let verifier = Lenient::anyone(algorithms);
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
        })
    }

    fn root_store(&self) -> Result<RootCertStore> {
        let mut store = RootCertStore::empty();
        let roots = match &self.roots[..] {
            [] => &[Roots::Public],
            roots => roots,
        };
        for roots in roots {
            match roots {
                Roots::Public => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
                #[cfg(feature = "tls-platform-roots")]
                Roots::Platform => material::add_platform_roots(&mut store)?,
                Roots::Pem(pem) => material::add_roots(&mut store, pem)?,
            }
        }
        Ok(store)
    }
}

/// Named, since klamm has no say in what is the default of the process.
pub(crate) fn provider() -> CryptoProvider {
    #[cfg(feature = "tls-aws-lc-rs")]
    return rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "tls-aws-lc-rs"))]
    rustls::crypto::ring::default_provider()
}
