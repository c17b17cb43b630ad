//! The broker that all tests share which are about TLS, SASL and ACLs.

use std::path::PathBuf;
use std::sync::OnceLock;

use super::certificates::{Authority, Identity, LOOPBACK, Validity};
use super::listener::{JavaAccess, Listener};
use super::{Kafka, watchdog};

/// A broker with a listener for each way in, and one for each way to be wrong.
///
/// | Listener | What it is |
/// |---|---|
/// | `SSL` | TLS; whoever shows no certificate is anonymous |
/// | `MTLS` | TLS; clients show a certificate |
/// | `SASL` | every mechanism, without TLS |
/// | `SASL_TLS` | every mechanism, with TLS |
/// | `PLAIN_ONLY` | PLAIN alone, without TLS |
/// | `SHORT` | every mechanism without TLS, for sessions of three seconds, behind a proxy: for one test alone |
/// | `RENEWED` | PLAIN and OAUTHBEARER without TLS, for sessions of three seconds |
/// | `CUT`, `MTLS_CUT` | as `SASL_TLS` and `MTLS`, behind a proxy: each for one test alone |
/// | `READ`, `WRITTEN` | PLAIN without TLS, behind a proxy: each for one test alone |
/// | `ROTATED`, `ROTATING` | as `SSL`, the second behind a proxy, for another certificate: each for one test alone |
/// | `TURNING`, `STEADY` | as `MTLS`, behind a proxy: for one test alone, which gives the first one other certificates |
/// | `OVER`, `EARLY` | TLS with a certificate that was, or will be, good |
/// | `SELF_SIGNED`, `STRANGER` | TLS with a certificate that nobody, or somebody else, vouches for |
/// | `MISNAMED` | TLS with a certificate for another host |
pub struct Secured {
    pub kafka: Kafka,
    /// Vouches for the broker, and for clients.
    pub authority: Authority,
    folder: PathBuf,
}

/// Somebody whom every mechanism knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    pub name: &'static str,
    pub password: &'static str,
}

impl User {
    pub const ALICE: Self = Self {
        name: "alice",
        password: "wonderland-2719",
    };
    pub const BOB: Self = Self {
        name: "bob",
        password: "builder-3141",
    };
}

/// It starts with the first test that asks, and ends with the process. Use names from [`unique`](super::unique) on it, and
/// change nobody's password.
///
/// An ACL for a topic or a group keeps all out who are not named by one, but those without a name.
pub fn secured() -> &'static Secured {
    static SECURED: OnceLock<Secured> = OnceLock::new();
    SECURED.get_or_init(Secured::start)
}

impl Secured {
    fn start() -> Self {
        let authority = Authority::new("tests of klamm");
        let good = authority.server(&LOOPBACK);
        let root = authority.root();
        let while_ = |validity| authority.server_while(&LOOPBACK, validity);
        let users = [User::ALICE, User::BOB].map(|user| (user.name, user.password));
        let every = |listener: Listener| listener.plain(&users).scram().oauthbearer();
        let stranger = Authority::new("somebody else").server(&LOOPBACK);
        let mutual = |name| Listener::ssl(name, &good).requires_certificates_of(&root);
        let listeners = [
            Listener::ssl("SSL", &good),
            mutual("MTLS"),
            every(Listener::sasl_plaintext("SASL")),
            every(Listener::sasl_ssl("SASL_TLS", &good)),
            Listener::sasl_plaintext("PLAIN_ONLY").plain(&users),
            every(Listener::sasl_plaintext("SHORT"))
                .session_lifetime_ms(3000)
                .behind_proxy(),
            Listener::sasl_plaintext("RENEWED")
                .plain(&users)
                .oauthbearer()
                .session_lifetime_ms(3000),
            every(Listener::sasl_ssl("CUT", &good)).behind_proxy(),
            mutual("MTLS_CUT").behind_proxy(),
            Listener::sasl_plaintext("READ").plain(&users).behind_proxy(),
            Listener::sasl_plaintext("WRITTEN").plain(&users).behind_proxy(),
            Listener::ssl("ROTATED", &good),
            Listener::ssl("ROTATING", &good).behind_proxy(),
            mutual("TURNING").behind_proxy(),
            mutual("STEADY").behind_proxy(),
            Listener::ssl("OVER", &while_(Validity::Over)),
            Listener::ssl("EARLY", &while_(Validity::NotYet)),
            Listener::ssl("SELF_SIGNED", &Identity::self_signed(&LOOPBACK)),
            Listener::ssl("STRANGER", &stranger),
            Listener::ssl("MISNAMED", &authority.server(&["broker.example"])),
        ];
        let mut builder = Kafka::builder().authorizer(&[]).property("num.network.threads", 1);
        for listener in listeners {
            builder = builder.listener(listener);
        }
        for (name, password) in users {
            builder = builder.scram_user(name, password);
        }
        let folder = watchdog::run_folder().join("secured");
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        std::fs::write(folder.join("root.pem"), root).expect("a certificate can be written");
        Self {
            kafka: builder.start_with(None),
            authority,
            folder,
        }
    }

    /// What to trust, as a file.
    pub fn root_file(&self) -> PathBuf {
        self.folder.join("root.pem")
    }

    /// A file that Java's clients take with a certificate of this name.
    pub fn java_keystore(&self, name: &str) -> PathBuf {
        let file = self.folder.join(format!("{name}-keystore.pem"));
        std::fs::write(&file, self.authority.client(name).keystore()).expect("a keystore can be written");
        file
    }

    /// Java by TLS, trusting what is to be trusted.
    pub fn java_tls(&self, protocol: &str) -> JavaAccess {
        JavaAccess::new(protocol).trusts(&self.root_file())
    }
}
