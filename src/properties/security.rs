//! What the properties say of TLS and SASL, as a value.

use std::path::PathBuf;

use super::{Properties, jaas::LoginModule, pem, table::By, value::Value};
use crate::{
    error::{Error, Result},
    net::sasl::Secret,
};

/// What protects a connection.
#[derive(Debug)]
pub(super) struct Security {
    pub(super) tls: Option<TlsSettings>,
    pub(super) sasl: Option<SaslSettings>,
}

#[derive(Debug, Default)]
#[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "told from bad ones all the same"))]
pub(super) struct TlsSettings {
    /// None: the roots that browsers trust.
    pub(super) roots: Option<Pem>,
    pub(super) trust: Trust,
    pub(super) identity: Option<Identity>,
    /// Not TLS 1.2.
    pub(super) only_1_3: bool,
}

#[cfg(any(test, feature = "tls"))]
impl TlsSettings {
    /// The properties say nothing but that there is TLS.
    pub(super) fn is_bare(&self) -> bool {
        self.roots.is_none() && self.identity.is_none() && self.trust == Trust::Verified && !self.only_1_3
    }
}

#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "told from bad ones all the same"))]
pub(super) enum Pem {
    File(PathBuf),
    Text(String),
}

/// What is verified of a broker's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Trust {
    #[default]
    Verified,
    AnyName,
    Anybody,
}

#[derive(Debug)]
#[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "told from bad ones all the same"))]
pub(super) enum Identity {
    Files {
        chain: PathBuf,
        key: PathBuf,
        /// What to say if the key turns out to be encrypted, since there is a password for it.
        if_encrypted: Option<Error>,
    },
    Text {
        chain: String,
        key: Secret,
    },
}

#[derive(Debug)]
#[cfg_attr(
    not(all(feature = "scram", feature = "oidc")),
    allow(dead_code, reason = "told from bad ones all the same")
)]
pub(super) enum SaslSettings {
    Plain {
        user: String,
        password: Secret,
    },
    Scram {
        hash: Hash,
        user: String,
        password: Secret,
        /// A delegation token's ID and HMAC.
        is_token: bool,
    },
    Oidc {
        endpoint: String,
        client_id: String,
        client_secret: Secret,
        scope: Option<String>,
        extensions: Vec<(String, String)>,
        is_urlencoded: bool,
    },
    /// What the program has given to the builder.
    Given,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

/// Whether there is TLS, and whether there is SASL.
const PROTOCOLS: [(&str, (bool, bool)); 4] = [
    ("PLAINTEXT", (false, false)),
    ("SSL", (true, false)),
    ("SASL_PLAINTEXT", (false, true)),
    ("SASL_SSL", (true, true)),
];

impl Security {
    /// None: there is no `security.protocol`. `given` is the mechanism that the program has given to the builder.
    pub(super) fn of(properties: &Properties, given: Option<&str>) -> Result<Option<Self>> {
        let Some(protocol) = properties.find_filled("security.protocol") else {
            return Ok(None);
        };
        let (tls, sasl) = protocol.one_of(&PROTOCOLS)?;
        Ok(Some(Self {
            tls: tls.then(|| tls_settings(properties)).transpose()?,
            sasl: sasl
                .then(|| {
                    Login {
                        properties,
                        given,
                        protocol,
                    }
                    .settings()
                })
                .transpose()?,
        }))
    }
}

/// Why a key that is about TLS or SASL changes nothing.
pub(super) fn without_effect(properties: &Properties, by: By, value: Value<'_>) -> Option<&'static str> {
    let Some(protocol) = properties.find_filled("security.protocol") else {
        return Some("without security.protocol, connections are not protected");
    };
    let (tls, sasl) = protocol.one_of(&PROTOCOLS).ok()?;
    match by {
        By::Tls if !tls => Some("security.protocol asks for no TLS"),
        By::Sasl if !sasl => Some("security.protocol asks for no SASL"),
        _ if value.key == "ssl.enabled.protocols" && !value.list().any(|version| version == "TLSv1.3") => {
            Some("klamm takes it for the oldest version, and speaks TLS 1.3 with brokers that have it")
        }
        _ => None,
    }
}

/// What makes TLS believe more than it should, each with its danger. Whoever reads a log is to know it, since the program does
/// not show it.
pub(super) fn dangers(properties: &Properties) -> impl Iterator<Item = (Value<'_>, &'static str)> {
    let protocol = properties.find_filled("security.protocol");
    let has_tls = protocol.is_some_and(|protocol| protocol.one_of(&PROTOCOLS).is_ok_and(|(tls, _)| tls));
    let found = match trust(properties) {
        Ok(Trust::Anybody) if has_tls => Some((
            "enable.ssl.certificate.verification",
            "accepts any certificate: it lets whoever is on the way pretend to be a broker",
        )),
        Ok(Trust::AnyName) if has_tls => Some((
            "ssl.endpoint.identification.algorithm",
            "accepts a certificate for any name: it lets whoever has one of the same authority pretend to be a broker",
        )),
        _ => None,
    };
    found
        .and_then(|(key, danger)| Some((properties.find(key)?, danger)))
        .into_iter()
}

fn tls_settings(properties: &Properties) -> Result<TlsSettings> {
    properties.check(By::Tls)?;
    Ok(TlsSettings {
        roots: roots(properties)?,
        trust: trust(properties)?,
        identity: identity(properties)?,
        only_1_3: only_1_3(properties)?,
    })
}

fn roots(properties: &Properties) -> Result<Option<Pem>> {
    let store = store(
        properties,
        "ssl.truststore.type",
        "ssl.truststore.location",
        to_pem::trust_store,
    )?;
    let found = one_of_them(
        [store, properties.find_filled("ssl.ca.location")],
        ["ssl.truststore.certificates", "ssl.ca.pem"].map(|key| properties.find_filled(key)),
    )?;
    Ok(found.map(|(_, pem)| pem))
}

fn identity(properties: &Properties) -> Result<Option<Identity>> {
    let store = store(
        properties,
        "ssl.keystore.type",
        "ssl.keystore.location",
        to_pem::key_store,
    )?;
    let find = |key| properties.find_filled(key);
    let chain = one_of_them(
        [store, find("ssl.certificate.location")],
        [find("ssl.keystore.certificate.chain"), find("ssl.certificate.pem")],
    )?;
    let key = one_of_them(
        [store, find("ssl.key.location")],
        [find("ssl.keystore.key"), find("ssl.key.pem")],
    )?;
    let if_encrypted = find("ssl.key.password").map(|password| {
        password
            .wrong("cannot be used: klamm reads keys that are not encrypted; `openssl pkey -in key.pem` writes it so")
    });
    match (chain, key) {
        (None, None) => Ok(None),
        (Some((_, Pem::File(chain))), Some((_, Pem::File(key)))) => Ok(Some(Identity::Files {
            chain,
            key,
            if_encrypted,
        })),
        (Some((_, Pem::Text(chain))), Some((_, Pem::Text(key)))) => match if_encrypted {
            Some(error) if key.contains("ENCRYPTED") => Err(error),
            _ => Ok(Some(Identity::Text {
                chain,
                key: Secret::new(key),
            })),
        },
        (Some((one, _)), Some((other, _))) => Err(one.wrong(format!(
            "and {} do not go together: both must be files, or both text",
            other.key
        ))),
        (Some((alone, _)), None) => Err(alone.wrong("needs a private key beside it")),
        (None, Some((alone, _))) => Err(alone.wrong("needs a certificate beside it")),
    }
}

/// The file of a store, which must be of the one type that klamm reads.
fn store<'a>(
    properties: &'a Properties,
    kind: &str,
    location: &str,
    to_pem: fn(&str) -> String,
) -> Result<Option<Value<'a>>> {
    let kind = properties.find_filled(kind);
    let location = properties.find_filled(location);
    match (kind, location) {
        (Some(kind), _) if kind.is("PEM") => Ok(location),
        (_, Some(location)) => Err(location.wrong(format!(
            "names a {} store, and klamm reads PEM only: {}",
            kind.map_or("JKS", |kind| kind.text),
            to_pem(location.text)
        ))),
        (Some(kind), None) if !kind.is("JKS") && !kind.is("PKCS12") => Err(kind.refuse("PEM")),
        _ => Ok(None),
    }
}

/// The commands that make PEM of Java's stores.
mod to_pem {
    pub(super) fn trust_store(file: &str) -> String {
        format!(
            "`keytool -list -rfc -keystore {file} > roots.pem` makes a file of it for ssl.truststore.location, \
             with ssl.truststore.type=PEM"
        )
    }

    pub(super) fn key_store(file: &str) -> String {
        format!(
            "`keytool -importkeystore -srckeystore {file} -destkeystore identity.p12 -deststoretype PKCS12` (unless it is one) \
             and `openssl pkcs12 -in identity.p12 -nodes -out identity.pem` make a file of it for ssl.keystore.location, \
             with ssl.keystore.type=PEM"
        )
    }
}

/// What is said by one key, in a file or as text; not by two.
fn one_of_them<'a>(files: [Option<Value<'a>>; 2], texts: [Option<Value<'a>>; 2]) -> Result<Option<(Value<'a>, Pem)>> {
    let files = files.into_iter().flatten();
    let files = files.map(|file| (file, Pem::File(PathBuf::from(file.text))));
    let texts = texts.into_iter().flatten();
    let texts = texts.map(|text| (text, Pem::Text(pem::in_lines(text.text))));
    let mut found = files.chain(texts);
    let first = found.next();
    match (&first, found.next()) {
        (Some((one, _)), Some((other, _))) => {
            Err(other.wrong(format!("and {} exclude each other: leave one of them out", one.key)))
        }
        _ => Ok(first),
    }
}

fn trust(properties: &Properties) -> Result<Trust> {
    if let Some(verifies) = properties.find_filled("enable.ssl.certificate.verification") {
        if !verifies.is_true()? {
            return Ok(Trust::Anybody);
        }
    }
    // Empty is a value here.
    match properties.find("ssl.endpoint.identification.algorithm") {
        None => Ok(Trust::Verified),
        Some(algorithm) if algorithm.text.is_empty() => Ok(Trust::AnyName),
        Some(algorithm) => algorithm
            .one_of(&[("https", Trust::Verified), ("none", Trust::AnyName)])
            .map_err(|_| algorithm.refuse("https, or empty to let any name in a certificate pass")),
    }
}

fn only_1_3(properties: &Properties) -> Result<bool> {
    let Some(versions) = properties.find_filled("ssl.enabled.protocols") else {
        return Ok(false);
    };
    let has = |version| versions.list().any(|enabled| enabled == version);
    match (has("TLSv1.2"), has("TLSv1.3")) {
        (false, false) => Err(versions.refuse("TLSv1.2,TLSv1.3 or one of them")),
        (with_1_2, _) => Ok(!with_1_2),
    }
}

/// What says who the program is.
struct Login<'a> {
    properties: &'a Properties,
    given: Option<&'a str>,
    protocol: Value<'a>,
}

/// The options of login modules. An asterisk stands for any end.
const OPTIONS: [(&str, &[&str]); 3] = [
    ("PlainLoginModule", &["username", "password", "serviceName"]),
    (
        "ScramLoginModule",
        &["username", "password", "tokenauth", "serviceName"],
    ),
    (
        "OAuthBearerLoginModule",
        &["clientId", "clientSecret", "scope", "extension_*"],
    ),
];

fn is_option(name: &str, known: &[&str]) -> bool {
    known.iter().any(|known| match known.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == *known,
    })
}

/// With a blank behind it. Of a password without quotes, a part may be taken for an option.
fn shown_option(name: &str) -> String {
    let can_be = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '.');
    match name.chars().all(can_be) {
        true => format!("{name} "),
        false => String::new(),
    }
}

const MECHANISMS: &str = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER";

impl Login<'_> {
    fn settings(&self) -> Result<SaslSettings> {
        let Some(mechanism) = self.properties.find_filled("sasl.mechanism") else {
            return Err(self.protocol.wrong(format!(
                "asks for a sasl.mechanism, which must be {MECHANISMS}; GSSAPI, which is Kafka's default, klamm does not have"
            )));
        };
        let is_given = self.given.is_some_and(|given| mechanism.is(given));
        let name = mechanism.text.to_ascii_uppercase();
        let settings = match &*name {
            "PLAIN" => self.plain(mechanism),
            "SCRAM-SHA-256" => self.scram(mechanism, Hash::Sha256),
            "SCRAM-SHA-512" => self.scram(mechanism, Hash::Sha512),
            "OAUTHBEARER" => self.oauthbearer(mechanism),
            _ if is_given => Ok(None),
            _ => Err(mechanism.refuse(format!(
                "{MECHANISMS}, unless the program gives it to `ClientBuilder::sasl` before the properties"
            ))),
        };
        match settings? {
            Some(settings) => Ok(settings),
            None if is_given => Ok(SaslSettings::Given),
            None => {
                let what = match &*name {
                    "OAUTHBEARER" => {
                        "sasl.oauthbearer.token.endpoint.url, or `Sasl::oauthbearer` before the properties"
                    }
                    _ => "sasl.jaas.config, or sasl.username and sasl.password",
                };
                Err(mechanism.wrong(format!("is {name}, which needs {what}")))
            }
        }
    }

    fn plain(&self, mechanism: Value<'_>) -> Result<Option<SaslSettings>> {
        let credentials = self.credentials(mechanism, "PlainLoginModule")?;
        Ok(credentials.map(|(user, password, _)| SaslSettings::Plain { user, password }))
    }

    fn scram(&self, mechanism: Value<'_>, hash: Hash) -> Result<Option<SaslSettings>> {
        let credentials = self.credentials(mechanism, "ScramLoginModule")?;
        Ok(credentials.map(|(user, password, module)| SaslSettings::Scram {
            hash,
            user,
            password,
            is_token: module.is_some_and(|module| {
                let token = module.option("tokenauth");
                token.is_some_and(|token| token.expose().eq_ignore_ascii_case("true"))
            }),
        }))
    }

    /// User and password, from where they are said.
    fn credentials(&self, mechanism: Value<'_>, class: &str) -> Result<Option<(String, Secret, Option<LoginModule>)>> {
        self.refuse_handlers(|_| false)?;
        let user = self.properties.find_filled("sasl.username");
        let password = self.properties.find("sasl.password");
        let Some((jaas, module)) = self.module(mechanism, class)? else {
            return match (user, password) {
                (Some(user), Some(password)) => Ok(Some((user.text.to_owned(), Secret::new(password.text), None))),
                (Some(alone), None) => Err(alone.wrong("needs sasl.password beside it")),
                (None, Some(alone)) => Err(alone.wrong("needs sasl.username beside it")),
                (None, None) => Ok(None),
            };
        };
        if let Some(other) = user.or(password) {
            return Err(other.wrong(format!("and {} exclude each other: leave one of them out", jaas.key)));
        }
        match (module.option("username"), module.option("password")) {
            (Some(user), Some(password)) => {
                let (user, password) = (user.expose().to_owned(), password.clone());
                Ok(Some((user, password, Some(module))))
            }
            (None, _) => Err(jaas.wrong("has no option username=\"…\"")),
            (_, None) => Err(jaas.wrong("has no option password=\"…\"")),
        }
    }

    fn module(&self, mechanism: Value<'_>, class: &str) -> Result<Option<(Value<'_>, LoginModule)>> {
        let Some(jaas) = self.properties.find_filled("sasl.jaas.config") else {
            return Ok(None);
        };
        let module = LoginModule::parse(jaas.text).map_err(|wrong| jaas.wrong(wrong))?;
        if module.name() == class {
            let known = OPTIONS.iter().filter(|(of, _)| *of == class);
            let known: Vec<_> = known.flat_map(|(_, names)| names.iter().copied()).collect();
            if module.options().any(|(name, _)| name.starts_with("unsecured")) {
                return Err(jaas.wrong(
                    "asks for a token that nobody has signed (unsecuredLoginStringClaim_sub), which klamm does not make; \
                     `Sasl::oauthbearer` takes tokens of the program's",
                ));
            }
            if let Some((name, _)) = module.options().find(|(name, _)| !is_option(name, &known)) {
                return Err(jaas.wrong(format!(
                    "has an option {}that klamm does not know; it knows {}",
                    shown_option(name),
                    known.join(", ")
                )));
            }
            return Ok(Some((jaas, module)));
        }
        // What is no login module may be a password at the wrong place.
        let other = match module.name() {
            name if name.ends_with("LoginModule") && name.chars().all(|c| c.is_ascii_alphanumeric()) => name,
            _ => "another class",
        };
        Err(jaas.wrong(format!(
            "names {other}, and {}={} needs {class}",
            mechanism.key, mechanism.text
        )))
    }

    fn oauthbearer(&self, mechanism: Value<'_>) -> Result<Option<SaslSettings>> {
        self.properties.check(By::Sasl)?;
        let module = self.module(mechanism, "OAuthBearerLoginModule")?;
        let Some(endpoint) = self.properties.find_filled("sasl.oauthbearer.token.endpoint.url") else {
            return Ok(None);
        };
        if !endpoint.text.starts_with("https://") && !endpoint.text.starts_with("http://") {
            return Err(endpoint.refuse("an https:// address; `Sasl::oauthbearer` takes tokens from elsewhere"));
        }
        self.refuse_handlers(|class| class.ends_with(".OAuthBearerLoginCallbackHandler"))?;
        if let Some(retriever) = self.properties.find_filled("sasl.oauthbearer.jwt.retriever.class") {
            let (_, class) = retriever.text.rsplit_once('.').unwrap_or_default();
            if !["DefaultJwtRetriever", "ClientCredentialsJwtRetriever"].contains(&class) {
                return Err(retriever.refuse("left out, or ClientCredentialsJwtRetriever: klamm runs no Java classes"));
            }
        }
        let option = |name| module.as_ref().and_then(|(_, module)| module.option(name));
        let said = |key, name| {
            let value = self.properties.find_filled(key).map(|value| Secret::new(value.text));
            value.or_else(|| option(name).cloned())
        };
        let needed = |key, name| {
            said(key, name)
                .ok_or_else(|| endpoint.wrong(format!("needs {key} beside it, or {name} in sasl.jaas.config")))
        };
        let client_id = needed("sasl.oauthbearer.client.credentials.client.id", "clientId")?;
        let scope = said("sasl.oauthbearer.scope", "scope");
        let options = module.iter().flat_map(|(_, module)| module.options());
        let extensions = options.filter_map(|(name, value)| {
            let name = name.strip_prefix("extension_")?;
            Some((name.to_owned(), value.expose().to_owned()))
        });
        Ok(Some(SaslSettings::Oidc {
            endpoint: endpoint.text.to_owned(),
            client_id: client_id.expose().to_owned(),
            client_secret: needed("sasl.oauthbearer.client.credentials.client.secret", "clientSecret")?,
            scope: scope.map(|scope| scope.expose().to_owned()),
            extensions: extensions.collect(),
            is_urlencoded: self
                .properties
                .find_filled("sasl.oauthbearer.header.urlencode")
                .map_or(Ok(false), |value| value.is_true())?,
        }))
    }

    /// Credentials that a Java class would bring cannot be had.
    fn refuse_handlers(&self, is_known: fn(&str) -> bool) -> Result<()> {
        for key in [
            "sasl.login.callback.handler.class",
            "sasl.client.callback.handler.class",
        ] {
            match self.properties.find_filled(key) {
                Some(handler) if !is_known(handler.text) => {
                    return Err(handler.wrong(
                        "must be left out: klamm runs no Java classes; the program may give `ClientBuilder::sasl` what \
                         asks for credentials",
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
