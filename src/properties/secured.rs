//! From what the properties say to what protects a connection.

use super::security::{SaslSettings, Security, TlsSettings};
use crate::{
    cluster::ClusterConfig,
    error::{Error, ErrorKind, Result},
    net::sasl::Sasl,
};

/// What the program has given stays only where the properties refer to it, or say no more than that it is to be there.
pub(super) fn apply(security: Security, config: &mut ClusterConfig) -> Result<()> {
    let Security { tls, sasl } = security;
    apply_tls(tls, config)?;
    match sasl {
        Some(SaslSettings::Given) => {}
        settings => config.sasl = settings.map(self::sasl).transpose()?,
    }
    Ok(())
}

#[cfg(feature = "tls")]
pub(super) fn has_tls(config: &ClusterConfig) -> bool {
    config.tls.is_some()
}

#[cfg(not(feature = "tls"))]
pub(super) fn has_tls(_: &ClusterConfig) -> bool {
    false
}

#[cfg(feature = "tls")]
fn apply_tls(settings: Option<TlsSettings>, config: &mut ClusterConfig) -> Result<()> {
    match settings {
        Some(settings) if settings.is_bare() && config.tls.is_some() => {}
        settings => config.tls = settings.map(tls).transpose()?,
    }
    Ok(())
}

#[cfg(not(feature = "tls"))]
fn apply_tls(settings: Option<TlsSettings>, _: &mut ClusterConfig) -> Result<()> {
    settings.map_or(Ok(()), |_| Err(left_out("security.protocol asks for TLS", "tls")))
}

#[cfg(feature = "tls")]
fn tls(settings: TlsSettings) -> Result<crate::Tls> {
    use super::security::{Identity, Pem, Trust};

    let mut tls = crate::Tls::new();
    tls = match settings.roots {
        None => tls,
        Some(Pem::File(path)) => tls.root_file(path),
        Some(Pem::Text(pem)) => tls.root_pem(pem),
    };
    tls = match settings.identity {
        None => tls,
        Some(Identity::Files {
            key,
            if_encrypted: Some(error),
            ..
        }) if is_encrypted(&key) => return Err(error),
        Some(Identity::Files { chain, key, .. }) => tls.identity_files(chain, key),
        Some(Identity::Text { chain, key }) => tls.identity_pem(chain, key.expose()),
    };
    tls = match settings.trust {
        Trust::Verified => tls,
        Trust::AnyName => tls.danger_accept_any_server_name(),
        Trust::Anybody => tls.danger_accept_any_certificate(),
    };
    Ok(match settings.only_1_3 {
        true => tls.min_version(crate::TlsVersion::Tls13),
        false => tls,
    })
}

/// What cannot be read is told when the client connects.
#[cfg(feature = "tls")]
fn is_encrypted(key: &std::path::Path) -> bool {
    let pem = std::fs::read_to_string(key).map(crate::Secret::new);
    pem.is_ok_and(|pem| pem.expose().contains("ENCRYPTED"))
}

fn sasl(settings: SaslSettings) -> Result<Sasl> {
    match settings {
        SaslSettings::Plain { user, password } => Ok(Sasl::plain(user, password)),
        #[cfg(feature = "scram")]
        SaslSettings::Scram {
            hash,
            user,
            password,
            is_token,
        } => {
            use super::security::Hash;
            let credentials = match is_token {
                true => crate::Credentials::delegation_token(user, password),
                false => crate::Credentials::new(user, password),
            };
            Ok(match hash {
                Hash::Sha256 => Sasl::scram_sha_256_with(move |_| Ok(credentials.clone())),
                Hash::Sha512 => Sasl::scram_sha_512_with(move |_| Ok(credentials.clone())),
            })
        }
        #[cfg(not(feature = "scram"))]
        SaslSettings::Scram { .. } => Err(left_out("sasl.mechanism asks for SCRAM", "scram")),
        #[cfg(feature = "oidc")]
        SaslSettings::Oidc {
            endpoint,
            client_id,
            client_secret,
            scope,
            extensions,
            is_urlencoded,
        } => {
            let mut oidc = crate::Oidc::new(endpoint, client_id, client_secret).header_urlencode(is_urlencoded);
            if let Some(scope) = scope {
                oidc = oidc.scope(scope);
            }
            let oidc = extensions
                .into_iter()
                .fold(oidc, |oidc, (name, value)| oidc.extension(name, value));
            Ok(Sasl::oauthbearer_oidc(oidc))
        }
        #[cfg(not(feature = "oidc"))]
        SaslSettings::Oidc { .. } => Err(left_out(
            "sasl.oauthbearer.token.endpoint.url asks for tokens of an identity provider",
            "oidc",
        )),
        SaslSettings::Given => Err(Error::config("sasl.mechanism asks for what the program was to give")),
    }
}

#[allow(dead_code, reason = "with all features, nothing is left out")]
fn left_out(what: &str, feature: &str) -> Error {
    let message = format!("{what}, and klamm was built without the feature `{feature}`");
    Error::new(ErrorKind::Unsupported, message)
}
