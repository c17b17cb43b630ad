//! Properties from environment variables.

use std::ffi::OsString;

use super::{Entry, Properties, table};
use crate::{
    error::{Error, Result},
    net::sasl::Secret,
};

/// Words of hosts that give a cluster to a program through its environment.
const PEM: [(&str, &str); 3] = [
    ("KAFKA_TRUSTED_CERT", "ssl.truststore.certificates"),
    ("KAFKA_CLIENT_CERT", "ssl.keystore.certificate.chain"),
    ("KAFKA_CLIENT_CERT_KEY", "ssl.keystore.key"),
];

pub(super) fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Properties> {
    let read = |name: &str| match variable(name).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(Error::config(format!("{name} in the environment is not Unicode"))),
    };
    let mut properties = Properties::default();
    let mut add = |key: &str, value: String, name: &str| {
        properties.add(Entry {
            key: key.to_owned(),
            value: Secret::new(value),
            place: Some(format!("{name} in the environment")),
        })
    };
    if let Some(url) = read("KAFKA_URL")? {
        let (servers, protocol) = servers(&url)?;
        add("bootstrap.servers", servers, "KAFKA_URL")?;
        if let Some(protocol) = protocol {
            add("security.protocol", protocol.to_owned(), "KAFKA_URL")?;
        }
    }
    for (name, key) in PEM {
        if let Some(pem) = read(name)? {
            add(key, pem, name)?;
        }
    }
    for key in table::names() {
        let name = format!("KAFKA_{}", key.replace('.', "_").to_ascii_uppercase());
        // A variable that is there and empty is none, where a line of a file with nothing means something on purpose.
        let is_none = |value: &String| key == "ssl.endpoint.identification.algorithm" && value.trim().is_empty();
        if let Some(value) = read(&name)?.filter(|value| !is_none(value)) {
            add(key, value, &name)?;
        }
    }
    Ok(properties)
}

/// The servers of a list of URLs, whose scheme may be at the first one only, and the protocol that they ask for.
fn servers(urls: &str) -> Result<(String, Option<&'static str>)> {
    // A URL may hold a password, so it is not quoted.
    let refuse = |why| Error::config(format!("KAFKA_URL in the environment {why}"));
    let mut servers = Vec::new();
    let mut protocol = None;
    for url in urls.split(',').map(str::trim).filter(|url| !url.is_empty()) {
        let (said, server) = match url.split_once("://") {
            Some(("kafka", server)) => (Some("PLAINTEXT"), server),
            Some(("kafka+ssl", server)) => (Some("SSL"), server),
            Some(_) => return Err(refuse("must be kafka://host:port or kafka+ssl://host:port")),
            None => (None, url),
        };
        let server = server.trim_end_matches('/');
        if server.contains(['@', '/', '?', '#']) {
            return Err(refuse(
                "must name hosts and ports only; users and passwords go into KAFKA_SASL_JAAS_CONFIG",
            ));
        }
        if said.is_some() && protocol.is_some() && protocol != said {
            return Err(refuse("names both kafka:// and kafka+ssl://"));
        }
        protocol = protocol.or(said);
        servers.push(server);
    }
    Ok((servers.join(","), protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Properties> {
        read(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn each_key_has_a_variable() {
        let properties = of(&[
            ("KAFKA_BOOTSTRAP_SERVERS", "a:1"),
            ("KAFKA_SASL_JAAS_CONFIG", "hunter2"),
            ("KAFKA_HEAP_OPTS", "-Xmx1G"),
        ])
        .unwrap();
        assert_eq!(properties.value("bootstrap.servers"), Some("a:1"));
        assert_eq!(properties.value("sasl.jaas.config"), Some("hunter2"));
        assert_eq!((properties.entries.len(), properties.unknown().count()), (2, 0));
        let error = properties
            .with("security.protocol", "SASL_SSL")
            .with("sasl.mechanism", "PLAIN");
        let error = error.client().unwrap_err().to_string();
        assert!(
            error.starts_with("KAFKA_SASL_JAAS_CONFIG in the environment: "),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_variable_that_is_empty_does_not_let_any_certificate_pass() {
        let algorithm = |value| {
            let properties = of(&[("KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM", value)]).unwrap();
            properties
                .value("ssl.endpoint.identification.algorithm")
                .map(str::to_owned)
        };
        assert_eq!((algorithm(""), algorithm(" ")), (None, None));
        assert_eq!(algorithm("none").as_deref(), Some("none"));
    }

    #[test]
    fn a_url_names_servers_and_whether_they_are_encrypted() {
        let properties = of(&[
            ("KAFKA_URL", "kafka+ssl://a.example:9096,kafka+ssl://b.example:9096/"),
            ("KAFKA_TRUSTED_CERT", "roots"),
            ("KAFKA_CLIENT_CERT", "chain"),
            ("KAFKA_CLIENT_CERT_KEY", "key"),
        ])
        .unwrap();
        assert_eq!(
            properties.value("bootstrap.servers"),
            Some("a.example:9096,b.example:9096")
        );
        assert_eq!(properties.value("security.protocol"), Some("SSL"));
        assert_eq!(properties.value("ssl.truststore.certificates"), Some("roots"));
        assert_eq!(properties.value("ssl.keystore.certificate.chain"), Some("chain"));
        assert_eq!(properties.value("ssl.keystore.key"), Some("key"));
        let plain = of(&[("KAFKA_URL", "kafka://a:1,b:2")]).unwrap();
        assert_eq!(plain.value("bootstrap.servers"), Some("a:1,b:2"));
        assert_eq!(plain.value("security.protocol"), Some("PLAINTEXT"));
        let bare = of(&[("KAFKA_URL", "a:1"), ("KAFKA_SECURITY_PROTOCOL", "SSL")]).unwrap();
        assert_eq!(bare.value("security.protocol"), Some("SSL"));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for urls in [
            &[("KAFKA_URL", "kafka://a:1,kafka+ssl://b:2")] as &[_],
            &[("KAFKA_URL", "https://a:1")],
            &[("KAFKA_URL", "kafka://me:hunter2@a:1")],
            &[
                ("KAFKA_BOOTSTRAP_SERVERS", "a:1"),
                ("KAFKA_METADATA_BROKER_LIST", "b:1"),
            ],
        ] {
            let error = of(urls).unwrap_err().to_string();
            assert!(error.starts_with("KAFKA_") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn what_is_not_unicode_is_named() {
        use std::os::unix::ffi::OsStringExt;
        let error = read(|name| (name == "KAFKA_ACKS").then(|| OsString::from_vec(vec![0xff]))).unwrap_err();
        assert!(error.to_string().contains("KAFKA_ACKS"));
    }
}
