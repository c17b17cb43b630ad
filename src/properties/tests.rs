//! Files as services and their manuals give them, with secrets that nobody has.

use super::{
    Properties,
    security::{Hash, Identity, Pem, SaslSettings, Security, Trust},
    table,
};
use crate::{
    client::{Client, ClientBuilder},
    error::ErrorKind,
    net::sasl::{BoxError, Exchange, Mechanism, Peer, Sasl},
};

const CONFLUENT: &str = r#"# Required connection configs for Kafka producer, consumer, and admin
bootstrap.servers=pkc-12345.europe-west1.gcp.confluent.cloud:9092
security.protocol=SASL_SSL
sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username='KEY' password='hunter2';
sasl.mechanism=PLAIN
# Required for correctness in Apache Kafka clients prior to 2.6
client.dns.lookup=use_all_dns_ips

# Best practice for higher availability in Apache Kafka clients prior to 3.0
session.timeout.ms=45000

# Best practice for Kafka producer to prevent data loss
acks=all

# Required connection configs for Confluent Cloud Schema Registry
schema.registry.url=https://psrc-12345.europe-west1.gcp.confluent.cloud
basic.auth.credentials.source=USER_INFO
basic.auth.user.info=hunter2:hunter2
"#;

const AIVEN: &str = r#"
bootstrap.servers=kafka-demo.aivencloud.com:21256
security.protocol=SSL
ssl.endpoint.identification.algorithm=
ssl.truststore.type=PEM
ssl.truststore.location=/etc/kafka/ca.pem
ssl.keystore.type=PEM
ssl.keystore.certificate.chain=-----BEGIN CERTIFICATE----- \
  MIIChain \
  -----END CERTIFICATE-----
ssl.keystore.key=-----BEGIN PRIVATE KEY----- \
  hunter2 \
  -----END PRIVATE KEY-----
"#;

const AIVEN_STORES: &str = r#"
bootstrap.servers=kafka-demo.aivencloud.com:21256
security.protocol=SSL
ssl.truststore.location=client.truststore.jks
ssl.truststore.password=hunter2
ssl.keystore.type=PKCS12
ssl.keystore.location=client.keystore.p12
ssl.keystore.password=hunter2
ssl.key.password=hunter2
"#;

const MSK_SCRAM: &str = r#"
bootstrap.servers=b-1.demo.kafka.us-east-1.amazonaws.com:9096,b-2.demo.kafka.us-east-1.amazonaws.com:9096
security.protocol=SASL_SSL
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
  username="alice" \
  password="hunter2";
"#;

const MSK_IAM: &str = r#"
bootstrap.servers=b-1.demo.kafka.us-east-1.amazonaws.com:9098
security.protocol=SASL_SSL
sasl.mechanism=AWS_MSK_IAM
sasl.jaas.config=software.amazon.msk.auth.iam.IAMLoginModule required;
sasl.client.callback.handler.class=software.amazon.msk.auth.iam.IAMClientCallbackHandler
"#;

const LIBRDKAFKA: &str = r#"
metadata.broker.list=kafka:9093
security.protocol=sasl_ssl
sasl.mechanisms=SCRAM-SHA-256
sasl.username=alice
sasl.password=hunter2
ssl.ca.location=/etc/ssl/ca.pem
ssl.certificate.location=/etc/ssl/client.pem
ssl.key.location=/etc/ssl/client.key
enable.ssl.certificate.verification=false
"#;

const OIDC: &str = r#"
bootstrap.servers=kafka:9093
security.protocol=SASL_SSL
sasl.mechanism=OAUTHBEARER
sasl.login.callback.handler.class=org.apache.kafka.common.security.oauthbearer.secured.OAuthBearerLoginCallbackHandler
sasl.oauthbearer.token.endpoint.url=https://login.example/oauth2/token
sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
  clientId="app" clientSecret="hunter2" scope="kafka" extension_logicalCluster="lkc-1";
"#;

fn of(text: &str) -> Properties {
    text.parse().unwrap()
}

fn security(text: &str) -> Security {
    Security::of(&of(text), None).unwrap().unwrap()
}

#[track_caller]
fn refused(text: &str, why: &[&str]) {
    let error = Security::of(&of(text), None).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    assert!(text.starts_with("line ") && !text.contains("hunter2"), "{text}");
    assert!(why.iter().all(|why| text.contains(why)), "{text}");
}

#[test]
fn confluent_s_file_is_read() {
    let Security { tls, sasl } = security(CONFLUENT);
    let tls = tls.unwrap();
    assert!(tls.is_bare());
    let Some(SaslSettings::Plain { user, password }) = sasl else {
        panic!("{sasl:?}");
    };
    assert_eq!((&*user, password.expose()), ("KEY", "hunter2"));
    let properties = of(CONFLUENT);
    assert_eq!(
        properties.unknown().collect::<Vec<_>>(),
        [
            "basic.auth.credentials.source",
            "basic.auth.user.info",
            "schema.registry.url"
        ]
    );
    assert_eq!(properties.ignored().count(), 0);
}

#[test]
fn aiven_s_file_is_read() {
    let Security { tls, sasl } = security(AIVEN);
    assert!(sasl.is_none());
    let tls = tls.unwrap();
    assert_eq!(tls.roots, Some(Pem::File("/etc/kafka/ca.pem".into())));
    assert_eq!((tls.trust, tls.is_bare()), (Trust::AnyName, false));
    let Some(Identity::Text { chain, key }) = tls.identity else {
        panic!("{:?}", tls.identity);
    };
    assert_eq!(
        chain,
        "-----BEGIN CERTIFICATE-----\nMIIChain\n-----END CERTIFICATE-----\n"
    );
    assert_eq!(
        key.expose(),
        "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n"
    );
}

#[test]
fn java_s_stores_are_refused_with_the_command_that_makes_pem_of_them() {
    refused(
        AIVEN_STORES,
        &[
            "line 4: ssl.truststore.location names a JKS store",
            "keytool -list -rfc -keystore client.truststore.jks",
        ],
    );
    let key_store = AIVEN_STORES.replace("ssl.truststore", "# ssl.truststore");
    refused(
        &key_store,
        &["ssl.keystore.location names a PKCS12 store", "openssl pkcs12"],
    );
    let pem = key_store.replace("PKCS12", "PEM");
    let properties = of(&pem);
    assert_eq!(
        properties.ignored().map(|(key, _)| key).collect::<Vec<_>>(),
        ["ssl.keystore.password"]
    );
    let Some(Identity::Files {
        chain,
        key,
        if_encrypted,
    }) = security(&pem).tls.unwrap().identity
    else {
        panic!("{pem}");
    };
    assert_eq!(
        (&*chain, &*key),
        ("client.keystore.p12".as_ref(), "client.keystore.p12".as_ref())
    );
    assert!(if_encrypted.unwrap().to_string().contains("openssl pkey"));
}

#[test]
fn msk_s_files_are_read() {
    let Some(SaslSettings::Scram {
        hash,
        user,
        password,
        is_token,
    }) = security(MSK_SCRAM).sasl
    else {
        panic!();
    };
    assert_eq!(
        (hash, &*user, password.expose(), is_token),
        (Hash::Sha512, "alice", "hunter2", false)
    );
    refused(
        MSK_IAM,
        &[
            "line 4: sasl.mechanism",
            "SCRAM-SHA-512",
            "`ClientBuilder::sasl`",
            "not AWS_MSK_IAM",
        ],
    );
    let given = Security::of(&of(MSK_IAM), Some("AWS_MSK_IAM")).unwrap().unwrap();
    assert!(matches!(given.sasl, Some(SaslSettings::Given)));
}

#[test]
fn librdkafka_s_words_are_read() {
    let Security { tls, sasl } = security(LIBRDKAFKA);
    let Some(SaslSettings::Scram {
        hash, user, password, ..
    }) = sasl
    else {
        panic!("{sasl:?}");
    };
    assert_eq!((hash, &*user, password.expose()), (Hash::Sha256, "alice", "hunter2"));
    let tls = tls.unwrap();
    assert_eq!(
        (tls.roots, tls.trust),
        (Some(Pem::File("/etc/ssl/ca.pem".into())), Trust::Anybody)
    );
    let Some(Identity::Files { chain, key, .. }) = tls.identity else {
        panic!("{:?}", tls.identity);
    };
    assert_eq!(
        (&*chain, &*key),
        ("/etc/ssl/client.pem".as_ref(), "/etc/ssl/client.key".as_ref())
    );
}

#[test]
fn client_credentials_are_read() {
    let Some(SaslSettings::Oidc {
        endpoint,
        client_id,
        client_secret,
        scope,
        extensions,
        is_urlencoded,
    }) = security(OIDC).sasl
    else {
        panic!();
    };
    assert_eq!((&*endpoint, &*client_id), ("https://login.example/oauth2/token", "app"));
    assert_eq!((client_secret.expose(), scope.as_deref()), ("hunter2", Some("kafka")));
    assert_eq!(extensions, [("logicalCluster".to_owned(), "lkc-1".to_owned())]);
    assert!(!is_urlencoded);
    let keys = OIDC
        .replace("sasl.jaas.config", "#")
        .replace("  clientId", "# clientId")
        + "sasl.oauthbearer.client.credentials.client.id=app\nsasl.oauthbearer.client.credentials.client.secret=hunter2";
    assert!(matches!(security(&keys).sasl, Some(SaslSettings::Oidc { .. })));
    refused(
        &OIDC.replace("https://", "file:///"),
        &["sasl.oauthbearer.token.endpoint.url", "https://"],
    );
    refused(
        &OIDC.replace("clientSecret=\"hunter2\"", ""),
        &["client.credentials.client.secret", "clientSecret"],
    );
    let unsecured = OIDC.replace("clientId=\"app\"", "unsecuredLoginStringClaim_sub=\"app\"");
    refused(&unsecured, &["unsecuredLoginStringClaim_sub"]);
    let jwt = OIDC.to_owned() + "sasl.oauthbearer.jwt.retriever.class=a.JwtBearerJwtRetriever";
    refused(&jwt, &["ClientCredentialsJwtRetriever"]);
    let own = "security.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER";
    refused(own, &["line 2", "token.endpoint.url"]);
    let given = Security::of(&of(own), Some("OAUTHBEARER")).unwrap().unwrap();
    assert!(matches!(given.sasl, Some(SaslSettings::Given)));
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let plain = "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n";
    let with = |more: &str| format!("{plain}{more}");
    refused(
        "security.protocol=SASL_TLS",
        &["PLAINTEXT or SSL or SASL_PLAINTEXT or SASL_SSL"],
    );
    refused("security.protocol=SASL_SSL", &["asks for a sasl.mechanism"]);
    refused(
        "security.protocol=SASL_SSL\nsasl.mechanism=GSSAPI",
        &["line 2", "not GSSAPI"],
    );
    refused(plain, &["line 2", "sasl.jaas.config"]);
    refused(&with("sasl.username=a"), &["line 3", "sasl.password"]);
    refused(&with("sasl.password=hunter2"), &["line 3", "sasl.username"]);
    refused(&with("sasl.jaas.config=hunter2"), &["line 3", "`required`"]);
    refused(
        &with("sasl.jaas.config=x.PlainLoginModule required user=\"hunter2\";"),
        &["an option user that"],
    );
    refused(
        &with("sasl.jaas.config=x.PlainLoginModule required username=\"a\" hunter2=\"b\" password=\"c\";"),
        &["an option that klamm does not know; it knows username, password"],
    );
    refused(
        &with("sasl.jaas.config=x.PlainLoginModule required password=\"hunter2\";"),
        &["username="],
    );
    refused(
        &with("sasl.jaas.config=x.PlainLoginModule required username=\"a\";"),
        &["password="],
    );
    refused(
        &with("sasl.jaas.config=x.ScramLoginModule required username=\"a\" password=\"hunter2\";"),
        &["names ScramLoginModule", "needs PlainLoginModule"],
    );
    refused(&with("sasl.jaas.config=hunter2 required;"), &["another class"]);
    refused(
        &with("sasl.jaas.config=x.PlainLoginModule required username=\"a\" password=\"hunter2\";\nsasl.password=b"),
        &["exclude each other"],
    );
    refused(&with("sasl.login.callback.handler.class=x.Y"), &["no Java classes"]);
    let tls = |more: &str| format!("security.protocol=SSL\n{more}");
    refused(&tls("ssl.truststore.type=BCFKS"), &["PEM"]);
    refused(
        &tls("ssl.ca.location=a\nssl.truststore.certificates=b"),
        &["line 3", "ssl.ca.location", "exclude"],
    );
    refused(&tls("ssl.keystore.certificate.chain=a"), &["private key"]);
    refused(&tls("ssl.keystore.key=a"), &["certificate"]);
    refused(&tls("ssl.certificate.location=a\nssl.keystore.key=b"), &["both"]);
    refused(
        &tls(
            "ssl.keystore.certificate.chain=a\nssl.keystore.key=BEGIN ENCRYPTED PRIVATE KEY\nssl.key.password=hunter2",
        ),
        &["line 4: ssl.key.password", "openssl pkey"],
    );
    refused(
        &tls("ssl.endpoint.identification.algorithm=ldaps"),
        &["https, or empty"],
    );
    refused(&tls("ssl.enabled.protocols=TLSv1,TLSv1.1"), &["TLSv1.2,TLSv1.3"]);
    refused(&tls("ssl.cipher.suites=TLS_NULL"), &["must be left out"]);
    refused(&tls("ssl.protocol=SSLv3"), &["TLSv1.3", "not SSLv3"]);
}

#[test]
fn versions_are_those_that_are_enabled() {
    let only_1_3 = |versions| {
        let text = format!("security.protocol=SSL\nssl.enabled.protocols={versions}");
        (security(&text).tls.unwrap().only_1_3, of(&text).ignored().count())
    };
    assert_eq!(only_1_3("TLSv1.3"), (true, 0));
    assert_eq!(only_1_3("TLSv1.2,TLSv1.3"), (false, 0));
    assert_eq!(only_1_3("TLSv1.2,TLSv1.1"), (false, 1));
}

#[test]
fn a_delegation_token_logs_in_by_scram() {
    let text = MSK_SCRAM.replace("required", "required tokenauth=\"true\"");
    assert!(matches!(
        security(&text).sasl,
        Some(SaslSettings::Scram { is_token: true, .. })
    ));
}

#[test]
fn what_protects_nothing_is_named() {
    let ignored = |text: &str| {
        let properties = of(text);
        properties
            .ignored()
            .map(|(key, why)| format!("{key}: {why}"))
            .collect::<Vec<_>>()
    };
    let unsaid = ignored("ssl.ca.location=a\nsasl.username=b");
    assert_eq!(unsaid.len(), 2);
    assert!(unsaid.iter().all(|line| line.contains("without security.protocol")));
    assert_eq!(
        ignored("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nssl.ca.location=a"),
        ["ssl.ca.location: security.protocol asks for no TLS"]
    );
    assert!(Security::of(&of("ssl.ca.location=a"), None).unwrap().is_none());
}

#[test]
fn secrets_are_in_no_error_log_or_debug() {
    for text in [CONFLUENT, AIVEN, AIVEN_STORES, MSK_SCRAM, MSK_IAM, LIBRDKAFKA, OIDC] {
        let properties = of(text);
        let mut seen = format!("{properties:?} {:?}", properties.remarks());
        for protocol in ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL", "hunter1"] {
            for mechanism in ["PLAIN", "SCRAM-SHA-256", "OAUTHBEARER", "AWS_MSK_IAM", "hunter1"] {
                let properties = properties.clone().with("security.protocol", protocol);
                let properties = properties.with("sasl.mechanism", mechanism);
                seen += &format!("{:?}", Security::of(&properties, None));
                seen += &format!("{:?}", properties.client());
            }
        }
        for key in ["sasl.jaas.config", "sasl.password", "ssl.keystore.key", "no.body.knows"] {
            let properties = properties.clone().with(key, "a.B required password=\"hunter2;");
            seen += &format!("{properties:?} {:?} {:?}", properties.client(), properties.remarks());
        }
        // Where nobody keeps them, with and without what makes them count.
        let pem = "-----BEGIN PRIVATE KEY----- hunter2 -----END PRIVATE KEY-----";
        for key in table::names() {
            for kind in ["PEM", "JKS"] {
                let protected = properties.clone().with("security.protocol", "SSL");
                let protected = protected
                    .with("ssl.keystore.type", kind)
                    .with("ssl.truststore.type", kind);
                for (key, value) in [(key, pem), ("bootstrap.servers", "SSL://me:x,hunter2@kafka:9092")] {
                    let properties = protected.clone().with(key, value);
                    seen += &format!("{properties:?} {:?} ", properties.remarks());
                    seen += &format!("{:?} ", Security::of(&properties, None).err());
                    match properties.client() {
                        Ok(builder) => {
                            seen += &format!("{builder:?} ");
                            let Ok(client) = builder.connect_lazy() else { continue };
                            seen += &format!("{:?} ", client.group("g").properties(&properties));
                            seen += &format!("{:?} ", client.reader().properties(&properties));
                            seen += &format!("{:?} ", client.producer().properties(&properties));
                        }
                        Err(error) => seen += &error.to_string(),
                    }
                }
            }
        }
        assert!(!seen.contains("hunter2"), "{seen}");
    }
}

#[test]
fn pem_where_a_file_must_be_named_is_refused() {
    let pem = "-----BEGIN PRIVATE KEY----- hunter2 -----END PRIVATE KEY-----";
    for kind in ["", "PEM", "JKS"] {
        for key in [
            "ssl.keystore.location",
            "ssl.truststore.location",
            "ssl.key.location",
            "ssl.ca.location",
        ] {
            refused(
                &format!("security.protocol=SSL\nssl.keystore.type={kind}\nssl.truststore.type={kind}\n{key}={pem}"),
                &[&format!("line 4: {key} must name a file")],
            );
        }
    }
}

#[test]
fn unknown_keys_are_told_once_whoever_takes_them_first() {
    let properties = of("bootstrap.servers=a:1\nmy.own=1");
    let client = Client::builder().bootstrap("a:1").connect_lazy().unwrap();
    client.producer().properties(&properties).map(drop).unwrap();
    assert!(properties.untold().is_empty(), "the producer has told");
    let changed = properties.clone().with("my.other", "1");
    client.reader().properties(&properties.clone()).map(drop).unwrap();
    client.reader().properties(&changed).map(drop).unwrap();
    assert!(changed.untold().is_empty(), "the reader has told");
    let again = of("my.own=1");
    client.group("g").properties(&again).map(drop).unwrap();
    assert!(again.untold().is_empty(), "the group has told");
    let new = of("bootstrap.servers=a:1\nmy.own=1");
    assert_eq!(new.client().unwrap().remarks.len(), 1);
    assert!(new.untold().is_empty(), "the client tells");
    assert_eq!(of("my.own=1").untold().len(), 1);
}

#[test]
fn what_verifies_less_is_warned_of() {
    let warned = |text: &str| {
        let remarks = of(text).remarks();
        let warnings = remarks.iter().filter(|remark| remark.is_warning);
        warnings.map(|remark| remark.text.clone()).collect::<Vec<_>>()
    };
    let any_name = warned(AIVEN);
    assert_eq!(any_name.len(), 1);
    assert!(
        any_name[0].starts_with("line 4: ssl.endpoint.identification.algorithm accepts a certificate for any name"),
        "{any_name:?}"
    );
    let anybody = warned(LIBRDKAFKA);
    assert_eq!(anybody.len(), 1);
    assert!(
        anybody[0].starts_with("line 10: enable.ssl.certificate.verification accepts any certificate"),
        "{anybody:?}"
    );
    assert!(warned(CONFLUENT).iter().all(|text| !text.contains("certificate")));
    let verified = "security.protocol=SSL\nssl.endpoint.identification.algorithm=https";
    assert_eq!(warned(verified), [""; 0]);
}

#[cfg(feature = "tls")]
#[test]
fn tls_of_the_program_is_not_taken_away_in_silence() {
    let warned = |properties: &Properties| {
        let builder = Client::builder().tls(crate::Tls::new()).properties(properties).unwrap();
        let is_told = builder.remarks.iter().any(|remark| {
            remark.is_warning
                && remark
                    .text
                    .contains("security.protocol asks for no TLS, and takes away")
        });
        (builder.config.tls.is_some(), is_told)
    };
    assert_eq!(warned(&of("client.id=a")), (true, false));
    assert_eq!(warned(&of("security.protocol=SSL")), (true, false));
    assert_eq!(warned(&of("security.protocol=PLAINTEXT")), (false, true));
    let sasl = "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username=a\nsasl.password=b";
    assert_eq!(warned(&of(sasl)), (false, true));
}

#[test]
fn unknown_and_ignored_keys_are_told_when_a_client_is_made() {
    let properties = of("bootstrap.servers=a:1\nmy.own=1\nkey.deserializer=x\ncheck.crcs=true\nssl.ca.location=a");
    assert_eq!(properties.unknown().collect::<Vec<_>>(), ["my.own"]);
    let ignored: Vec<_> = properties.ignored().map(|(key, _)| key).collect();
    assert_eq!(ignored, ["key.deserializer", "ssl.ca.location"]);
    let remarks = properties.client().unwrap().remarks;
    let remarks: Vec<_> = remarks
        .iter()
        .map(|remark| (remark.is_warning, &*remark.text))
        .collect();
    assert_eq!(
        remarks[0],
        (true, "line 2: my.own is known neither to Kafka's clients nor to klamm")
    );
    assert!(
        remarks[1]
            .1
            .starts_with("line 3: key.deserializer makes no difference: ")
    );
    assert_eq!(
        remarks.iter().map(|(is_warning, _)| *is_warning).collect::<Vec<_>>(),
        [true, false, true]
    );
}

#[test]
fn what_klamm_does_otherwise_is_refused_by_whose_it_is() {
    let properties = of("bootstrap.servers=a:1\ntransactional.id=t\nconfig.providers=file");
    let error = properties.client().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error
            .to_string()
            .starts_with("line 3: config.providers must be left out"),
        "{error}"
    );
    let properties = properties.with("config.providers", "");
    let client = properties.client().unwrap().connect_lazy().unwrap();
    let error = client.producer().properties(&properties).map(drop).unwrap_err();
    assert!(
        error.to_string().contains("line 2: transactional.id must be left out"),
        "{error}"
    );
    client.reader().properties(&properties).map(drop).unwrap();
    client.group("g").properties(&properties).map(drop).unwrap();
}

#[test]
fn what_comes_later_counts() {
    let properties = of("bootstrap.servers=a:1\nclient.id=b");
    let builder = Client::builder().client_id("a").properties(&properties).unwrap();
    assert_eq!(builder.config.client_id, "b");
    assert_eq!(builder.client_id("c").config.client_id, "c");
    let properties = of("acks=0\nacks=1").with("request.required.acks", "all");
    assert_eq!(properties.value("acks"), Some("all"));
}

#[test]
fn two_words_for_the_same_must_say_the_same() {
    let both = "sasl.mechanism=PLAIN\n\nsasl.mechanisms=GSSAPI";
    let error = both.parse::<Properties>().unwrap_err().to_string();
    assert_eq!(
        error,
        "line 3: sasl.mechanisms says otherwise than sasl.mechanism, which means the same"
    );
    "acks=1\nrequest.required.acks=1".parse::<Properties>().unwrap();
}

#[test]
fn lines_of_a_key_are_not_taken_for_keys_themselves() {
    let text = "ssl.keystore.key=-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----";
    let error = text.parse::<Properties>().unwrap_err().to_string();
    assert!(
        error.starts_with("line 3: PEM") && error.contains("backslash"),
        "{error}"
    );
    let slipped = of("sasl.jaas.config=x.PlainLoginModule required\npassword\\=\"hunter2\";");
    let seen = format!("{slipped:?} {:?}", slipped.remarks());
    assert!(
        !seen.contains("hunter2") && seen.contains("line 2: what stands there"),
        "{seen}"
    );
}

#[test]
fn a_file_is_named_in_its_errors() {
    let missing = std::env::temp_dir().join("klamm-there-is-no-such.properties");
    let error = Properties::from_file(&missing).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error
            .to_string()
            .contains("klamm-there-is-no-such.properties cannot be read: no such file")
    );
    let file = std::env::temp_dir().join(format!("klamm-{}.properties", std::process::id()));
    std::fs::write(&file, b"bootstrap.servers=a:1\nclient.id=\xfc\nlinger.ms=soon").unwrap();
    let properties = Properties::from_file(&file);
    let builder = Client::builder().properties_file(&file);
    std::fs::write(&file, "a=\\u12").unwrap();
    let malformed = Properties::from_file(&file).unwrap_err().to_string();
    std::fs::remove_file(&file).unwrap();
    assert!(
        malformed.contains(&*format!("{}, line 1: ", file.display())),
        "{malformed}"
    );
    let client = builder.unwrap();
    assert_eq!(client.config.client_id, "ü");
    let producer = client.connect_lazy().unwrap().producer();
    let error = producer
        .properties(&properties.unwrap())
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(&*format!("{}, line 3: linger.ms must be", file.display())),
        "{error}"
    );
}

/// What is sent first to a broker that asks who this is.
fn first_words(builder: &ClientBuilder) -> String {
    let sasl = builder.config.sasl.as_ref().unwrap();
    let mut exchange = sasl.mechanism().begin(&Peer::new("kafka", 9_093, true)).unwrap();
    String::from_utf8(exchange.first().unwrap()).unwrap()
}

fn without_tls(text: &str) -> String {
    text.replace("SASL_SSL", "SASL_PLAINTEXT")
        .replace("sasl_ssl", "sasl_plaintext")
}

#[test]
fn user_and_password_come_to_the_mechanism() {
    let builder = of(&without_tls(CONFLUENT)).client().unwrap();
    assert_eq!(first_words(&builder), "\0KEY\0hunter2");
    let builder = builder.properties(&of("security.protocol=PLAINTEXT")).unwrap();
    assert!(builder.config.sasl.is_none());
}

#[test]
#[cfg(feature = "scram")]
fn a_scram_mechanism_is_the_one_that_is_named() {
    for (text, name) in [(MSK_SCRAM, "SCRAM-SHA-512"), (LIBRDKAFKA, "SCRAM-SHA-256")] {
        let text = without_tls(text);
        let builder = of(&text).client().unwrap();
        assert_eq!(builder.config.sasl.as_ref().unwrap().mechanism().name(), name);
        let words = first_words(&builder);
        assert!(
            words.starts_with("n,,n=alice,r=") && !words.contains("tokenauth"),
            "{words}"
        );
    }
    let token = without_tls(MSK_SCRAM).replace("required", "required tokenauth=true");
    assert!(first_words(&of(&token).client().unwrap()).ends_with(",tokenauth=true"));
}

#[test]
fn what_was_left_out_is_named_with_its_feature() {
    let missing = |text: &str| {
        of(&without_tls(text))
            .client()
            .map(drop)
            .err()
            .map(|error| (error.kind(), error.to_string()))
    };
    for (text, feature, is_there) in [
        (OIDC, "oidc", cfg!(feature = "oidc")),
        (MSK_SCRAM, "scram", cfg!(feature = "scram")),
    ] {
        match missing(text) {
            Some((kind, text)) => assert!(
                kind == ErrorKind::Unsupported && !is_there && text.contains(feature),
                "{text}"
            ),
            None => assert!(is_there, "{feature}"),
        }
    }
}

struct Iam;

impl Mechanism for Iam {
    fn name(&self) -> &str {
        "AWS_MSK_IAM"
    }

    fn begin(&self, _: &Peer<'_>) -> Result<Box<dyn Exchange>, BoxError> {
        Err("not here".into())
    }
}

#[test]
fn a_mechanism_that_the_program_has_given_is_the_one_that_is_named() {
    let properties = of(&without_tls(MSK_IAM));
    assert!(properties.client().is_err());
    let builder = Client::builder()
        .sasl(Sasl::custom(Iam))
        .properties(&properties)
        .unwrap();
    assert_eq!(builder.config.sasl.unwrap().mechanism().name(), "AWS_MSK_IAM");
    let other = Client::builder().sasl(Sasl::plain("a", "b")).properties(&properties);
    assert_eq!(other.unwrap_err().kind(), ErrorKind::Config);
}

/// How connections are encrypted, as `Debug` shows it: where certificates come from, and what is verified.
#[cfg(feature = "tls")]
fn encrypted(builder: &ClientBuilder) -> String {
    format!("{:?}", builder.config.tls.as_ref().unwrap())
}

#[test]
#[cfg(feature = "tls")]
fn what_is_said_of_tls_is_what_connections_have() {
    use crate::{Tls, TlsVersion};

    let same = |text: &str, tls: Tls| assert_eq!(encrypted(&of(text).client().unwrap()), format!("{tls:?}"));
    same(CONFLUENT, Tls::new());
    let pem = Tls::new().root_file("/etc/kafka/ca.pem").identity_pem("chain", "key");
    same(AIVEN, pem.danger_accept_any_server_name());
    let files = "security.protocol=SSL\nssl.enabled.protocols=TLSv1.3\nssl.truststore.type=PEM\n\
                 ssl.truststore.certificates=roots\nssl.keystore.type=PEM\nssl.keystore.location=both.pem";
    let tls = Tls::new().root_pem("roots").identity_files("both.pem", "both.pem");
    same(files, tls.min_version(TlsVersion::Tls13));
    let tls = Tls::new().root_file("/etc/ssl/ca.pem");
    let tls = tls.identity_files("/etc/ssl/client.pem", "/etc/ssl/client.key");
    let unverified = LIBRDKAFKA.replace("SCRAM-SHA-256", "PLAIN");
    same(&unverified, tls.danger_accept_any_certificate());
}

#[test]
#[cfg(feature = "tls")]
fn the_program_s_own_tls_stays_unless_another_one_is_asked_for() {
    let own = || Client::builder().tls(crate::Tls::new().root_file("own.pem"));
    let with = |text: &str| own().properties(&of(text)).unwrap();
    assert!(encrypted(&with("bootstrap.servers=a:1")).contains("own.pem"));
    assert!(encrypted(&with("security.protocol=SSL")).contains("own.pem"));
    assert!(encrypted(&with("security.protocol=SSL\nssl.ca.location=other.pem")).contains("other.pem"));
    assert!(with("security.protocol=PLAINTEXT").config.tls.is_none());
}

#[test]
#[cfg(feature = "tls")]
fn certificates_may_come_on_one_line() {
    let authority = crate::net::tls::tests::Authority::new();
    let identity = authority.issue(&["client"]);
    let joined = |pem: &str| pem.trim_end().replace('\n', " \\\n  ");
    let text = format!(
        "bootstrap.servers=a:1\nsecurity.protocol=SSL\nssl.truststore.type=PEM\nssl.truststore.certificates={}\n\
         ssl.keystore.type=PEM\nssl.keystore.certificate.chain={}\nssl.keystore.key={}\nssl.key.password=unused",
        joined(&authority.pem),
        joined(&identity.chain),
        joined(&identity.key)
    );
    of(&text).client().unwrap().connect_lazy().unwrap();
    let damaged = text.replace(
        "ssl.truststore.certificates=-----BEGIN",
        "ssl.truststore.certificates=BEGIN",
    );
    let error = of(&damaged).client().unwrap().connect_lazy().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
#[cfg(feature = "tls")]
fn a_password_for_a_key_in_a_file_is_refused_when_the_key_needs_it() {
    let file = std::env::temp_dir().join(format!("klamm-key-{}.pem", std::process::id()));
    let text = format!(
        "bootstrap.servers=a:1\nsecurity.protocol=SSL\nssl.keystore.type=PEM\nssl.keystore.location={}\n\
         ssl.key.password=hunter2",
        file.display()
    );
    std::fs::write(&file, include_str!("../net/tls/pem/encrypted.pem")).unwrap();
    let refused = of(&text).client();
    std::fs::write(&file, include_str!("../net/tls/pem/sec1.pem")).unwrap();
    let taken = of(&text).client();
    std::fs::remove_file(&file).unwrap();
    let error = refused.unwrap_err().to_string();
    assert!(
        error.starts_with("line 5: ssl.key.password") && !error.contains("hunter2"),
        "{error}"
    );
    drop(taken.unwrap());
}
