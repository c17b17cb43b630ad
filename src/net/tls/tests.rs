//! Brokers with certificates, good and bad, and clients that trust some of them.

use std::{
    env, fs,
    io::Write,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use kafka_protocol::messages::{MetadataRequest, MetadataResponse};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use super::*;
use crate::{
    deadline::Deadline,
    error::ErrorKind,
    net::{
        Connection, NetConfig,
        scripted::{Broker, Peer},
    },
    stop::Stop,
};

pub(crate) fn long() -> Deadline {
    Deadline::after(Duration::from_secs(60), "the test's limit")
}

/// Issues certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        Self::called(&format!("authority {}", COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    fn called(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// For these hosts.
    pub(crate) fn issue(&self, names: &[&str]) -> Identity {
        self.issue_with(names, |_| {})
    }

    pub(crate) fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let names: Vec<String> = names.iter().copied().map(Into::into).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Identity {
            chain: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    pub(crate) fn trusted(&self) -> Tls {
        Tls::new().root_pem(&self.pem)
    }
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) chain: String,
    pub(crate) key: String,
}

/// Of whom clients must be.
pub(crate) enum Clients<'a> {
    Anybody,
    KnownTo(&'a Authority),
}

/// How a broker is set up.
pub(crate) fn server(identity: &Identity, clients: &Clients<'_>, version: TlsVersion) -> Arc<ServerConfig> {
    let provider = Arc::new(provider());
    let versions: &[&SupportedProtocolVersion] = match version {
        TlsVersion::Tls12 => &[&TLS12],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(versions).unwrap();
    let builder = match clients {
        Clients::Anybody => builder.with_no_client_auth(),
        Clients::KnownTo(authority) => {
            let mut roots = RootCertStore::empty();
            material::add_roots(&mut roots, &Pem::bytes(authority.pem.as_bytes())).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = CertificateDer::pem_slice_iter(identity.chain.as_bytes()).collect::<Result<_, _>>();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(chain.unwrap(), key).unwrap();
    config.send_half_rtt_data = true;
    Arc::new(config)
}

/// Answers every request with no topics, each connection over TLS as it is set up then.
fn broker(config: impl Fn() -> Arc<ServerConfig> + Send + Sync + 'static) -> Broker {
    Broker::start(move |peer| {
        let mut peer = over_tls(peer, config());
        peer.introduce();
        while let Some(asked) = peer.request() {
            peer.send(&asked.answer::<MetadataRequest>(&MetadataResponse::default()));
        }
    })
}

pub(crate) fn over_tls(peer: Peer, config: Arc<ServerConfig>) -> Peer {
    peer.over(|stream| StreamOwned::new(ServerConnection::new(config).unwrap(), stream))
}

pub(crate) fn with(tls: &Tls) -> NetConfig {
    NetConfig {
        connect_timeout: Duration::from_secs(60),
        tls: Some(tls.clone()),
        ..NetConfig::default()
    }
}

/// Connects, and asks something.
fn ask(broker: &Broker, tls: &Tls) -> Result<()> {
    let connection = Connection::open(&broker.address, &with(tls), &long())?;
    connection.call(&MetadataRequest::default(), &long()).map(drop)
}

fn refused(broker: &Broker, tls: &Tls) -> (ErrorKind, String) {
    let error = ask(broker, tls).unwrap_err();
    assert_eq!(
        error.is_retriable(),
        matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::TimedOut),
        "{error}"
    );
    assert_eq!(error.broker(), Some(&*broker.address.to_string()));
    (error.kind(), error.to_string())
}

/// It is an error of this kind that says all of this.
#[track_caller]
fn is_refused(broker: &Broker, tls: &Tls, kind: ErrorKind, signs: &[&str]) {
    let (refused_as, sentence) = refused(broker, tls);
    assert_eq!(refused_as, kind, "{sentence}");
    for sign in signs {
        assert!(sentence.contains(sign), "{sentence:?} does not say {sign:?}");
    }
}

const BOTH: [TlsVersion; 2] = [TlsVersion::Tls12, TlsVersion::Tls13];

#[test]
fn both_versions_are_spoken_with_who_is_trusted() {
    let authority = Authority::new();
    let identity = authority.issue(&["localhost", "127.0.0.1"]);
    for version in BOTH {
        let config = server(&identity, &Clients::Anybody, version);
        let broker = broker(move || Arc::clone(&config));
        ask(&broker, &authority.trusted()).unwrap();
        ask(&broker, &authority.trusted().public_roots()).unwrap();
        ask(&broker, &authority.trusted().server_name("localhost")).unwrap();
        ask(&broker, &Tls::new().danger_accept_any_certificate()).unwrap();
    }
}

#[test]
fn who_was_believed_once_is_verified_again() {
    let authority = Authority::new();
    let here = ["127.0.0.1"];
    let expired = authority.issue_with(&here, |params| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 29);
    });
    for version in BOTH {
        let first = server(&authority.issue(&here), &Clients::Anybody, version);
        // It knows the sessions of the first one, so that they could be resumed.
        let mut second = ServerConfig::clone(&server(&expired, &Clients::Anybody, version));
        second.session_storage = Arc::clone(&first.session_storage);
        let (second, has_expired) = (Arc::new(second), Arc::new(AtomicBool::new(false)));
        let broker = broker({
            let has_expired = Arc::clone(&has_expired);
            move || match has_expired.load(Ordering::SeqCst) {
                true => Arc::clone(&second),
                false => Arc::clone(&first),
            }
        });
        let tls = authority.trusted();
        ask(&broker, &tls).unwrap();
        has_expired.store(true, Ordering::SeqCst);
        is_refused(&broker, &tls, ErrorKind::Authentication, &["expired"]);
    }
}

#[test]
fn a_bad_certificate_is_told_by_what_is_wrong_with_it() {
    let (authority, stranger) = (Authority::called("us"), Authority::called("them"));
    let made_anew = Authority::called("us");
    let tls = authority.trusted();
    let here = ["127.0.0.1"];
    let expired = authority.issue_with(&here, |params| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 29);
    });
    let early = authority.issue_with(&here, |params| {
        params.not_before = date_time_ymd(2600, 1, 1);
        params.not_after = date_time_ymd(2700, 1, 1);
    });
    let elsewhere = authority.issue(&["kafka-1", "10.0.0.1"]);
    let nowhere = authority.issue(&[]);
    let for_clients = authority.issue_with(&here, |params| {
        params.insert_extended_key_usage(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
    });
    let of_authority = authority.issue_with(&here, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    for version in BOTH {
        let tell = |identity: &Identity, signs: &[&str]| {
            let config = server(identity, &Clients::Anybody, version);
            let broker = broker(move || Arc::clone(&config));
            is_refused(&broker, &tls, ErrorKind::Authentication, signs);
        };
        tell(&expired, &["expired on 2020-02-29 00:00 UTC"]);
        tell(
            &early,
            &["not valid before 2600-01-01 00:00 UTC", "this machine's clock"],
        );
        tell(
            &stranger.issue(&here),
            &["not issued by anyone who is trusted", "Tls::root_file"],
        );
        tell(
            &made_anew.issue(&here),
            &["has the name of one that is trusted, and another key"],
        );
        tell(&elsewhere, &["not for 127.0.0.1, but for kafka-1, 10.0.0.1,"]);
        tell(&nowhere, &["not for 127.0.0.1", "no host at all"]);
        tell(&for_clients, &["not meant for servers"]);
        tell(&of_authority, &["CA:TRUE"]);
    }
}

#[test]
fn a_name_may_be_given_or_ignored_and_the_chain_is_still_verified() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let named = authority.issue(&["kafka-1"]);
    let strange = stranger.issue(&["127.0.0.1"]);
    let expired = authority.issue_with(&["kafka-1"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    for version in BOTH {
        let start = |identity: &Identity| {
            let config = server(identity, &Clients::Anybody, version);
            broker(move || Arc::clone(&config))
        };
        let (named, strange, expired) = (start(&named), start(&strange), start(&expired));
        ask(&named, &authority.trusted().server_name("kafka-1")).unwrap();
        let other = authority.trusted().server_name("kafka-2");
        is_refused(
            &named,
            &other,
            ErrorKind::Authentication,
            &["not for kafka-2, but for kafka-1"],
        );
        let any = authority.trusted().danger_accept_any_server_name();
        ask(&named, &any).unwrap();
        is_refused(&strange, &any, ErrorKind::Authentication, &["not issued by anyone"]);
        is_refused(&expired, &any, ErrorKind::Authentication, &["expired on 2020-01-01"]);
        let anyone = Tls::new().danger_accept_any_certificate();
        ask(&strange, &anyone).unwrap();
        ask(&expired, &anyone).unwrap();
    }
}

#[test]
fn brokers_that_want_to_know_their_clients_do_or_say_so() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let identity = authority.issue(&["127.0.0.1"]);
    let known = authority.issue(&["somebody"]);
    let unknown = stranger.issue(&["somebody"]);
    let expired = authority.issue_with(&["somebody"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    for version in BOTH {
        let config = server(&identity, &Clients::KnownTo(&authority), version);
        let broker = broker(move || Arc::clone(&config));
        let tls = |Identity { chain, key }: &Identity| authority.trusted().identity_pem(chain, key);
        ask(&broker, &tls(&known)).unwrap();
        let refused = |tls: &Tls, signs: &[&str]| is_refused(&broker, tls, ErrorKind::Authentication, signs);
        refused(
            &authority.trusted(),
            &["wants a client certificate", "Tls::identity_files"],
        );
        refused(
            &tls(&unknown),
            &["does not accept the client certificate", "who issued it"],
        );
        refused(
            &tls(&expired),
            &["does not accept the client certificate", "it has expired"],
        );
    }
}

#[test]
fn keys_are_read_in_every_form_but_encrypted() {
    let provider = provider();
    let read = |chain: &str, key: &str| {
        let read = material::identity(&Pem::bytes(chain.as_bytes()), &Pem::bytes(key.as_bytes()), &provider);
        read.map(drop)
    };
    let (sec1, pkcs1) = (include_str!("pem/sec1.pem"), include_str!("pem/pkcs1.pem"));
    let pkcs8 = Authority::new().issue(&["somebody"]);
    read(sec1, sec1).unwrap();
    read(pkcs1, pkcs1).unwrap();
    read(&pkcs8.chain, &pkcs8.key).unwrap();
    for encrypted in [
        include_str!("pem/encrypted.pem"),
        include_str!("pem/encrypted-pkcs1.pem"),
    ] {
        let error = read(sec1, encrypted).unwrap_err();
        assert!(
            error.to_string().contains("encrypted, which is not supported"),
            "{error}"
        );
    }
    let error = read(sec1, pkcs1).unwrap_err();
    assert!(
        error.to_string().contains("does not belong to the first certificate"),
        "{error}"
    );
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("klamm-tls-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// As whoever renews certificates does it: nobody ever sees half of it.
    fn put(&self, name: &str, what: impl AsRef<[u8]>) -> PathBuf {
        let new = self.path("new");
        let mut file = fs::File::create(&new).unwrap();
        file.write_all(what.as_ref()).unwrap();
        fs::rename(new, self.path(name)).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn a_file_of_no_use_is_named_with_the_reason_before_anything_is_dialled() {
    let folder = Folder::new();
    let good = Authority::new();
    let Identity { chain, key } = good.issue(&["somebody"]);
    let told = |tls: Tls| {
        let builder = crate::Client::builder().bootstrap("localhost:9").tls(tls);
        let error = builder.connect_lazy().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        error.to_string()
    };
    let root = |name: &str, what: &[u8]| told(Tls::new().root_file(folder.put(name, what)));
    let sentence = told(Tls::new().root_file(folder.path("absent.pem")));
    assert!(
        sentence.contains("absent.pem cannot be read: no such file"),
        "{sentence}"
    );
    for (name, what, sign) in [
        ("empty.pem", &b" \n"[..], "empty.pem is empty"),
        ("text.pem", b"hello", "there is no certificate in"),
        ("text.pem", b"hello", "text.pem: it is not PEM"),
        ("root.der", &[0x30, 0x82, 1, 2], "it is binary, as DER"),
        ("root.jks", &[0xfe, 0xed, 0xfe, 0xed, 0], "keystore of Java's"),
        ("key.pem", key.as_bytes(), "there is no certificate in"),
        ("cut.pem", &chain.as_bytes()[..100], "cut.pem is damaged: it is cut off"),
        (
            "odd.pem",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "certificate 1 in",
        ),
        (
            "odd.pem",
            b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
            "is not base64",
        ),
    ] {
        let sentence = root(name, what);
        assert!(sentence.contains(sign), "{sentence:?} does not say {sign:?}");
    }
    let sentence = told(Tls::new().identity_pem(&chain, &chain));
    assert!(
        sentence.contains("there is no private key in the PEM that was given"),
        "{sentence}"
    );
    let sentence = told(Tls::new().server_name("not a name"));
    assert!(sentence.contains("\"not a name\""), "{sentence}");
    let path = folder.put("chain.pem", &chain);
    let sentence = told(Tls::new().identity_files(&path, folder.path("absent.key")));
    assert!(sentence.contains("absent.key cannot be read"), "{sentence}");
}

#[test]
fn what_is_secret_is_not_shown() {
    let tls = Tls::new().identity_pem(include_str!("pem/sec1.pem"), include_str!("pem/sec1.pem"));
    let shown = format!("{:?}", tls.root_file("/etc/ca.pem").server_name("kafka"));
    assert!(shown.contains("/etc/ca.pem") && shown.contains("kafka"), "{shown}");
    assert!(!shown.contains("BEGIN") && shown.len() < 200, "{shown}");
    let pem = include_str!("pem/sec1.pem");
    for tls in [Tls::new().root_file(pem), Tls::new().identity_files(pem, pem)] {
        let shown = format!("{tls:?} {}", tls.check().unwrap_err());
        assert!(!shown.contains("BEGIN") && shown.contains("`identity_pem`"), "{shown}");
    }
}

#[test]
fn what_a_clone_is_told_the_others_are_not() {
    let folder = Folder::new();
    let good = Tls::new().root_file(folder.put("root.pem", Authority::new().pem));
    good.check().unwrap();
    good.clone().root_file(folder.path("absent")).check().unwrap_err();
    good.check().unwrap();
}

#[test]
fn new_connections_use_what_is_in_the_files_now_and_what_was_good_while_they_are_not() {
    let folder = Folder::new();
    let (old, new) = (Authority::new(), Authority::new());
    let identities = [old.issue(&["127.0.0.1"]), new.issue(&["127.0.0.1"])];
    let configs = identities.map(|identity| server(&identity, &Clients::Anybody, TlsVersion::Tls13));
    let [of_old, of_new] = configs.map(|config| broker(move || Arc::clone(&config)));
    let root = folder.put("root.pem", &old.pem);
    let tls = Tls::new().root_file(&root);
    tls.check().unwrap();
    ask(&of_old, &tls).unwrap();
    is_refused(&of_new, &tls, ErrorKind::Authentication, &["not issued by anyone"]);
    let before = tls.client_config().unwrap();
    assert!(
        Arc::ptr_eq(&before, &tls.client_config().unwrap()),
        "nothing has changed"
    );
    // In the middle of being replaced.
    for broken in ["", "-----BEGIN CERTIFICATE-----\n"] {
        folder.put("root.pem", broken);
        ask(&of_old, &tls).unwrap();
        assert!(Arc::ptr_eq(&before, &tls.client_config().unwrap()));
    }
    fs::remove_file(&root).unwrap();
    ask(&of_old, &tls).unwrap();
    folder.put("root.pem", &new.pem);
    ask(&of_new, &tls).unwrap();
    is_refused(&of_old, &tls, ErrorKind::Authentication, &["not issued by anyone"]);
    // Clones, as clients have them, see the same.
    ask(&of_new, &tls.clone()).unwrap();
}

#[test]
fn what_could_not_be_read_for_a_while_is_read_later_though_it_has_not_changed() {
    let folder = Folder::new();
    let (old, new) = (Authority::new(), Authority::new());
    let tls = Tls::new().root_file(folder.put("root.pem", &old.pem));
    let before = tls.client_config().unwrap();
    folder.put("root.pem", &new.pem);
    material::TROUBLE.set(true);
    for _ in 0..2 {
        assert!(Arc::ptr_eq(&before, &tls.client_config().unwrap()));
        let told = tls.current.lock().as_ref().unwrap().told.clone();
        assert_eq!(told, Some(tls.settings.stamps()), "it is told once");
    }
    material::TROUBLE.set(false);
    let after = tls.client_config().unwrap();
    assert!(!Arc::ptr_eq(&before, &after), "the new one is used");
    assert!(Arc::ptr_eq(&after, &tls.client_config().unwrap()), "and kept");
}

#[test]
fn a_renewed_identity_is_presented_once_its_key_fits() {
    let folder = Folder::new();
    let authority = Authority::new();
    let (old, new) = (Authority::new(), Authority::new());
    let identity = authority.issue(&["127.0.0.1"]);
    let wants = |of: &Authority| {
        let config = server(&identity, &Clients::KnownTo(of), TlsVersion::Tls13);
        broker(move || Arc::clone(&config))
    };
    let (knows_old, knows_new) = (wants(&old), wants(&new));
    let (first, second) = (old.issue(&["me"]), new.issue(&["me"]));
    let chain = folder.put("chain.pem", &first.chain);
    let key = folder.put("key.pem", &first.key);
    let tls = authority.trusted().identity_files(chain, key);
    ask(&knows_old, &tls).unwrap();
    folder.put("chain.pem", &second.chain);
    ask(&knows_old, &tls).unwrap();
    folder.put("key.pem", &second.key);
    ask(&knows_new, &tls).unwrap();
    is_refused(
        &knows_old,
        &tls,
        ErrorKind::Authentication,
        &["does not accept the client certificate"],
    );
}

#[test]
fn versions_that_are_too_old_are_refused() {
    let authority = Authority::new();
    let identity = authority.issue(&["127.0.0.1"]);
    let config = server(&identity, &Clients::Anybody, TlsVersion::Tls12);
    let broker = broker(move || Arc::clone(&config));
    let tls = authority.trusted().min_version(TlsVersion::Tls13);
    is_refused(
        &broker,
        &tls,
        ErrorKind::Unsupported,
        &["no version of TLS that is allowed here"],
    );
}

#[test]
fn who_does_not_speak_tls_is_recognised() {
    for (answer, kind, sign) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            ErrorKind::Protocol,
            "speaks HTTP, not TLS",
        ),
        (
            &[0, 0, 0, 10, 0, 0, 0, 0, 0, 35],
            ErrorKind::Protocol,
            "is it a PLAINTEXT listener?",
        ),
        (b"220 mail.example ESMTP\r\n", ErrorKind::Protocol, "\"220 \""),
        (&[0x15, 3, 3, 0, 2, 2, 70], ErrorKind::Unsupported, "no version of TLS"),
        (
            &[0x15, 3, 3, 0, 2, 2, 40],
            ErrorKind::Authentication,
            "wants a client certificate, or",
        ),
        (
            &[0x16, 3, 3, 0, 4, 9, 9, 9, 9],
            ErrorKind::Protocol,
            "broke the rules of TLS",
        ),
        (&[], ErrorKind::Unreachable, "is the port a listener without TLS?"),
        (
            &[0x15, 3, 3, 0, 2, 2, 0],
            ErrorKind::Unreachable,
            "in the middle of the TLS handshake",
        ),
        (
            &[0x16, 3, 3, 0, 90, 2],
            ErrorKind::Unreachable,
            "in the middle of the TLS handshake",
        ),
    ] {
        let broker = Broker::start(move |mut peer| {
            peer.read(&mut [0; 4096]);
            peer.send(answer);
        });
        is_refused(&broker, &Tls::new(), kind, &[sign]);
    }
}

#[test]
fn a_stall_in_any_phase_ends_with_connect_timeout() {
    let authority = Authority::new();
    let identity = authority.issue(&["127.0.0.1"]);
    let config = server(&identity, &Clients::Anybody, TlsVersion::Tls13);
    type Stall = Box<dyn Fn(Peer) -> Peer + Send + Sync>;
    let stalls: [(Stall, &str); 4] = [
        (Box::new(|peer| peer), "the TLS handshake after"),
        (
            Box::new(|mut peer| {
                peer.read(&mut [0; 4096]);
                peer.send(&[0x16]);
                peer
            }),
            "the TLS handshake after",
        ),
        (
            Box::new(|mut peer| {
                peer.read(&mut [0; 4096]);
                peer.send(&[0x16, 3, 3, 1, 0, 2, 0]);
                peer
            }),
            "the TLS handshake after",
        ),
        (
            Box::new(move |peer| {
                let mut peer = over_tls(peer, Arc::clone(&config));
                peer.request();
                peer
            }),
            "the broker to answer ApiVersions after",
        ),
    ];
    for (stall, sign) in stalls {
        let broker = Broker::start(move |peer| stall(peer).wait_for_end());
        let config = NetConfig {
            connect_timeout: Duration::from_millis(300),
            ..with(&authority.trusted())
        };
        let error = Connection::open(&broker.address, &config, &long()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains(sign), "{error}");
        assert!(error.to_string().contains("connect_timeout"), "{error}");
    }
}

#[test]
fn a_stop_ends_a_handshake() {
    let (tell, told) = crossbeam_channel::bounded(1);
    let broker = Broker::start(move |mut peer| {
        peer.read(&mut [0; 4096]);
        tell.send(()).unwrap();
        peer.wait_for_end();
    });
    let stop = Stop::new("stream");
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| {
            let deadline = long().with_stop(&stop);
            Connection::open(&broker.address, &with(&Tls::new()), &deadline)
        });
        told.recv().unwrap();
        stop.stop();
        let error = opening.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    });
}

#[test]
fn who_does_not_speak_tls_is_told_by_who_does() {
    let authority = Authority::new();
    let config = server(&authority.issue(&["127.0.0.1"]), &Clients::Anybody, TlsVersion::Tls13);
    let broker = broker(move || Arc::clone(&config));
    let error = Connection::open(&broker.address, &NetConfig::default(), &long()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains("see ClientBuilder::tls"), "{error}");
}
