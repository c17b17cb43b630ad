//! Logs in to Amazon MSK with AWS's IAM, and lists topics: `cargo run --example msk_iam -- --bootstrap b-1.….amazonaws.com:9098`.
//!
//! It shows how to bring a mechanism that klamm does not have: AWS_MSK_IAM is one message, a request to AWS that is signed
//! and not sent to AWS (Signature Version 4), so that a broker can have it checked.

mod arguments;

use std::{
    env, fmt,
    fmt::Write,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use arguments::Arguments;
use klamm::{BoxError, Client, Exchange, Mechanism, Peer, Sasl, Secret, Step, Tls, Topics};
use ring::{digest, hmac};

fn main() -> ExitCode {
    let help = "\
Logs in to Amazon MSK with the credentials of IAM that are in the environment, and lists topics.

    --bootstrap LIST    brokers to ask first, as host:port,host:port (needed)

    AWS_REGION               where the cluster is (needed)
    AWS_ACCESS_KEY_ID        who asks (needed)
    AWS_SECRET_ACCESS_KEY    and how that is proved (needed)
    AWS_SESSION_TOKEN        if the credentials are temporary

Exits with 0 when all went well, 1 when not, 2 when called wrongly.";
    let arguments = match Arguments::read(help) {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    let bootstrap = match read_options(arguments) {
        Ok(bootstrap) => bootstrap,
        Err(what) => return arguments::wrong(&what),
    };
    match list(&bootstrap) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn read_options(mut arguments: Arguments) -> arguments::Result<String> {
    let mut bootstrap = None;
    while let Some(option) = arguments.option()? {
        match &*option {
            "--bootstrap" => bootstrap = Some(arguments.value(&option)?),
            _ => return Err(format!("unknown option {option}")),
        }
    }
    bootstrap.ok_or_else(|| "--bootstrap is needed".to_owned())
}

fn list(bootstrap: &str) -> klamm::Result<()> {
    let client = Client::builder()
        .bootstrap(bootstrap)
        .tls(Tls::new())
        .sasl(Sasl::custom(MskIam))
        .connect()?;
    for topic in client.metadata(Topics::All)?.topics {
        println!("{} has {} partitions", topic.name, topic.partitions.len());
    }
    Ok(())
}

/// The mechanism. What is looked up is looked up for each connection: credentials of IAM live for hours.
struct MskIam;

impl Mechanism for MskIam {
    fn name(&self) -> &str {
        "AWS_MSK_IAM"
    }

    fn begin(&self, peer: &Peer<'_>) -> Result<Box<dyn Exchange>, BoxError> {
        if !peer.is_encrypted {
            return Err("AWS_MSK_IAM wants TLS: whoever reads the message can use it for a quarter of an hour".into());
        }
        let signer = Signer::from_env()?;
        Ok(Box::new(OneMessage {
            message: signer.message(peer.host, Stamp::of(SystemTime::now())),
        }))
    }
}

struct OneMessage {
    message: String,
}

impl Exchange for OneMessage {
    fn first(&mut self) -> Result<Vec<u8>, BoxError> {
        Ok(std::mem::take(&mut self.message).into_bytes())
    }

    /// A broker that has accepted it says under which number it asked AWS.
    fn next(&mut self, challenge: &[u8]) -> Result<Step, BoxError> {
        if challenge.is_empty() {
            return Err("the broker did not say that AWS was asked".into());
        }
        Ok(Step::Done)
    }
}

/// Who asks AWS for what, and where.
struct Signer {
    key_id: String,
    secret_key: Secret,
    session_token: Option<Secret>,
    region: String,
    service: &'static str,
}

/// How long a message is good for; sessions last longer.
const EXPIRES: &str = "900";
const ACTION: &str = "kafka-cluster:Connect";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

impl Signer {
    fn from_env() -> Result<Self, BoxError> {
        let needed = |name: &str| env::var(name).map_err(|_| format!("{name} is not set"));
        Ok(Self {
            key_id: needed("AWS_ACCESS_KEY_ID")?,
            secret_key: needed("AWS_SECRET_ACCESS_KEY")?.into(),
            session_token: session_token(env::var("AWS_SESSION_TOKEN").ok()),
            region: needed("AWS_REGION")?,
            service: "kafka-cluster",
        })
    }

    /// What is sent: the parts of the request, and its signature.
    fn message(&self, host: &str, now: Stamp) -> String {
        let signed = self.query(Some(ACTION), EXPIRES, now);
        let nothing = hex(digest::digest(&digest::SHA256, b"").as_ref());
        let signature = self.signature(&canonical("/", &signed, host, &nothing), now);
        let mut fields = vec![
            ("version", "2020_10_22".to_owned()),
            ("host", host.to_owned()),
            ("user-agent", concat!("klamm/", env!("CARGO_PKG_VERSION")).to_owned()),
        ];
        fields.extend(signed.into_iter().map(|(name, value)| match name {
            "Action" => ("action", value),
            "X-Amz-Algorithm" => ("x-amz-algorithm", value),
            "X-Amz-Credential" => ("x-amz-credential", value),
            "X-Amz-Date" => ("x-amz-date", value),
            "X-Amz-Expires" => ("x-amz-expires", value),
            "X-Amz-Security-Token" => ("x-amz-security-token", value),
            _ => ("x-amz-signedheaders", value),
        }));
        fields.push(("x-amz-signature", signature));
        object(&fields)
    }

    /// All that is signed but the host, in the order in which it has to be.
    fn query(&self, action: Option<&str>, expires: &str, now: Stamp) -> Vec<(&'static str, String)> {
        let mut query = Vec::new();
        query.extend(action.map(|action| ("Action", action.to_owned())));
        query.push(("X-Amz-Algorithm", ALGORITHM.to_owned()));
        query.push(("X-Amz-Credential", format!("{}/{}", self.key_id, self.scope(now))));
        query.push(("X-Amz-Date", now.to_string()));
        query.push(("X-Amz-Expires", expires.to_owned()));
        let token = self.session_token.as_ref();
        query.extend(token.map(|token| ("X-Amz-Security-Token", token.expose().to_owned())));
        query.push(("X-Amz-SignedHeaders", "host".to_owned()));
        query
    }

    fn scope(&self, now: Stamp) -> String {
        format!("{}/{}/{}/aws4_request", now.date(), self.region, self.service)
    }

    fn signature(&self, request: &str, now: Stamp) -> String {
        let request = hex(digest::digest(&digest::SHA256, request.as_bytes()).as_ref());
        let signed = format!("{ALGORITHM}\n{now}\n{}\n{request}", self.scope(now));
        hex(sign(&self.key(now), &signed).as_ref())
    }

    fn key(&self, now: Stamp) -> Vec<u8> {
        let secret = format!("AWS4{}", self.secret_key.expose()).into_bytes();
        let parts = [&*now.date(), &*self.region, self.service, "aws4_request"];
        parts
            .iter()
            .fold(secret, |key, part| sign(&key, part).as_ref().to_vec())
    }
}

/// An empty variable is none, and must not be signed.
fn session_token(variable: Option<String>) -> Option<Secret> {
    variable.filter(|token| !token.is_empty()).map(Secret::from)
}

/// The canonical request, as AWS calls it.
fn canonical(path: &str, query: &[(&str, String)], host: &str, payload: &str) -> String {
    let query: Vec<_> = query
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    format!("GET\n{path}\n{}\nhost:{host}\n\nhost\n{payload}", query.join("&"))
}

fn sign(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string takes all");
        hex
    })
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => write!(encoded, "%{byte:02X}").expect("a string takes all"),
        }
        encoded
    })
}

/// JSON.
fn object(fields: &[(&str, String)]) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("\"{name}\":\"{}\"", escaped(value)))
        .collect();
    format!("{{{}}}", fields.join(","))
}

/// A time in UTC, as AWS writes it: `20130524T000000Z`.
#[derive(Clone, Copy)]
struct Stamp {
    seconds: u64,
}

impl Stamp {
    fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            seconds: since.as_secs(),
        }
    }

    fn date(self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, seconds) = (self.seconds / 86_400, self.seconds % 86_400);
        let (year, month, day) = date(days);
        let (hour, minute) = (seconds / 3600, seconds / 60 % 60);
        write!(
            f,
            "{year:04}{month:02}{day:02}T{hour:02}{minute:02}{:02}Z",
            seconds % 60
        )
    }
}

/// The date so many days after the first of January 1970.
fn date(mut days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Stamp {
        Stamp::of(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    fn signer(secret_key: &str, service: &'static str) -> Signer {
        Signer {
            key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret_key: secret_key.into(),
            session_token: None,
            region: "us-east-1".to_owned(),
            service,
        }
    }

    #[test]
    fn the_key_is_that_of_aws_s_documentation() {
        let signer = signer("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "iam");
        let key = signer.key(at(1_440_938_160)); // 20150830T123600Z
        assert_eq!(
            hex(&key),
            "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
        );
    }

    #[test]
    fn the_signature_is_that_of_aws_s_presigned_example() {
        let signer = signer("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "s3");
        let now = at(1_369_353_600);
        assert_eq!(now.to_string(), "20130524T000000Z");
        let query = signer.query(None, "86400", now);
        let request = canonical(
            "/test.txt",
            &query,
            "examplebucket.s3.amazonaws.com",
            "UNSIGNED-PAYLOAD",
        );
        assert_eq!(
            signer.signature(&request, now),
            "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }

    #[test]
    fn the_message_has_what_brokers_look_for() {
        let mut signer = signer("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "kafka-cluster");
        signer.session_token = Some("a+b/\"=".into());
        let message = signer.message("b-1.example.amazonaws.com", at(1_369_353_600));
        let begins = concat!(
            r#"{"version":"2020_10_22","host":"b-1.example.amazonaws.com","user-agent":"klamm/"#,
            env!("CARGO_PKG_VERSION"),
            r#"","action":"kafka-cluster:Connect","x-amz-algorithm":"AWS4-HMAC-SHA256","#,
            r#""x-amz-credential":"AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/kafka-cluster/aws4_request","#,
            r#""x-amz-date":"20130524T000000Z","x-amz-expires":"900","x-amz-security-token":"a+b/\"=","#,
            r#""x-amz-signedheaders":"host","x-amz-signature":""#,
        );
        let signature = message.strip_prefix(begins).unwrap_or_else(|| panic!("{message}"));
        let signature = signature.strip_suffix("\"}").unwrap();
        assert!(
            signature.len() == 64 && signature.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{signature}"
        );
        assert!(!message.contains("wJalrXUtnFEMI"));
    }

    #[test]
    fn an_empty_session_token_is_not_signed() {
        assert_eq!(session_token(Some(String::new())), None);
        assert_eq!(session_token(None), None);
        assert_eq!(session_token(Some("a".to_owned())), Some("a".into()));
    }

    #[test]
    fn days_become_dates() {
        for (seconds, date) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (951_868_800, "20000301T000000Z"),
            (1_735_689_599, "20241231T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(at(seconds).to_string(), date);
        }
    }

    #[test]
    fn nothing_is_sent_that_everybody_can_read() {
        let error = MskIam.begin(&Peer::new("b-1", 9098, false)).map(drop).unwrap_err();
        assert!(error.to_string().contains("TLS"));
    }

    #[test]
    fn a_broker_says_that_aws_was_asked() {
        let mut exchange = OneMessage { message: String::new() };
        exchange.next(b"").unwrap_err();
        let step = exchange.next(br#"{"version":"2020_10_22","request-id":"7"}"#).unwrap();
        assert_eq!(step, Step::Done);
    }
}
