//! What goes wrong in TLS, in words that somebody can act on.

use rustls::{AlertDescription as Alert, CertificateError, Error as Tls, PeerIncompatible, pki_types::UnixTime};

use crate::error::{Error, ErrorKind};

/// What there is to know about a connection to explain its failure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failures {
    /// Whether we say who we are to those who ask.
    pub(crate) has_identity: bool,
}

impl Failures {
    /// Nothing that a certificate is refused for goes away by itself; what is damaged on its way may.
    pub(crate) fn explain(&self, error: &Tls) -> Error {
        match error {
            Tls::InvalidCertificate(reason) => authentication(certificate(reason)),
            Tls::NoCertificatesPresented => authentication("the broker presented no certificate"),
            Tls::AlertReceived(alert) => self.alert(*alert),
            Tls::PeerIncompatible(reason) => Error::new(ErrorKind::Unsupported, incompatible(reason)),
            Tls::DecryptError => Error::new(ErrorKind::Io, "what came over TLS was damaged on its way"),
            Tls::FailedToGetCurrentTime | Tls::FailedToGetRandomBytes => {
                Error::new(ErrorKind::Internal, format!("TLS cannot work: {error}"))
            }
            other => Error::protocol(format!("the broker broke the rules of TLS: {other}")),
        }
    }

    fn alert(self, alert: Alert) -> Error {
        let name = words(alert);
        let about_ours = match alert {
            Alert::CertificateRequired => Some("it wants one"),
            Alert::BadCertificate => Some("it finds something wrong with it"),
            Alert::UnsupportedCertificate => Some("it does not support its kind"),
            Alert::CertificateRevoked => Some("it has been revoked"),
            Alert::CertificateExpired => Some("it has expired"),
            Alert::CertificateUnknown => Some("it does not trust it"),
            Alert::UnknownCA => Some("it does not know who issued it"),
            // Records that do not decrypt are another alert's.
            Alert::DecryptError if self.has_identity => Some("its signature is wrong"),
            Alert::AccessDenied => Some("it is valid, but not let in"),
            _ => None,
        };
        match (alert, about_ours) {
            (_, Some(why)) if self.has_identity => authentication(format!(
                "the broker does not accept the client certificate: {why} (alert {name})"
            )),
            (_, Some(_)) => authentication(format!(
                "the broker wants a client certificate, and none was given: see Tls::identity_files (alert {name})"
            )),
            (Alert::HandshakeFailure, _) if self.has_identity => Error::new(
                ErrorKind::Unsupported,
                format!("the broker has no cipher suite or signature in common with this client (alert {name})"),
            ),
            (Alert::HandshakeFailure, _) => authentication(format!(
                "the broker wants a client certificate, or has no cipher suite in common with this client (alert {name})"
            )),
            (Alert::UnrecognisedName, _) => authentication(format!(
                "the broker has no certificate for the name that it was asked for (alert {name})"
            )),
            (Alert::ProtocolVersion, _) => Error::new(ErrorKind::Unsupported, NO_VERSION),
            (Alert::InsufficientSecurity, _) => Error::new(
                ErrorKind::Unsupported,
                format!("the broker wants stronger cipher suites (alert {name})"),
            ),
            (Alert::BadRecordMac | Alert::DecryptError | Alert::InternalError | Alert::UserCanceled, _) => Error::new(
                ErrorKind::Io,
                format!("the broker gave the TLS connection up (alert {name})"),
            ),
            _ => Error::protocol(format!("the broker refuses how this client speaks TLS (alert {name})")),
        }
    }
}

const NO_VERSION: &str = "the broker speaks no version of TLS that is allowed here (see Tls::min_version)";

fn authentication(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Authentication, message)
}

fn certificate(reason: &CertificateError) -> String {
    use CertificateError as E;
    match reason {
        E::ExpiredContext { not_after, .. } => {
            format!(
                "the broker's certificate, or one that leads to it, expired on {}",
                date(*not_after)
            )
        }
        E::Expired => "the broker's certificate, or one that leads to it, has expired".to_owned(),
        E::NotValidYetContext { time, not_before } => format!(
            "the broker's certificate, or one that leads to it, is not valid before {}, and this machine's clock says {}",
            date(*not_before),
            date(*time)
        ),
        E::NotValidYet => "the broker's certificate, or one that leads to it, is not valid yet".to_owned(),
        E::UnknownIssuer => "the broker's certificate was not issued by anyone who is trusted: \
             it is self-signed, or its root is not among those that were given (see Tls::root_file)"
            .to_owned(),
        E::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            let names = presented
                .iter()
                .take(20)
                .map(|name| plain_name(name))
                .collect::<Vec<_>>();
            match &names[..] {
                [] => format!(
                    "the broker's certificate is not for {expected}: it names no host at all \
                     (no subjectAltName; its common name does not count)"
                ),
                names => format!(
                    "the broker's certificate is not for {expected}, but for {}",
                    names.join(", ")
                ),
            }
        }
        E::NotValidForName => "the broker's certificate is for another host".to_owned(),
        E::Revoked => "the broker's certificate has been revoked".to_owned(),
        E::BadSignature => {
            "the broker's certificate was issued by an authority that has the name of one that is trusted, \
             and another key: was it made anew?"
                .to_owned()
        }
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            "the broker's certificate is not meant for servers (extendedKeyUsage)".to_owned()
        }
        other => {
            let text = other.to_string();
            // rustls hands these on from webpki without words of its own.
            let why = if text.contains("CaUsedAsEndEntity") {
                "it is one of an authority (CA:TRUE), which must not be a server's"
            } else if text.contains("UnsupportedCertVersion") {
                "it is of X.509 version 1, which cannot name a host: issue it with a subjectAltName"
            } else {
                &text
            };
            format!("the broker's certificate cannot be used: {why}")
        }
    }
}

/// `DnsName("kafka-1")` and `IpAddress(10.0.0.1)` without what is around the name.
fn plain_name(name: &str) -> &str {
    let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inside.map_or(name, |inside| inside.trim_matches('"'))
}

fn incompatible(reason: &PeerIncompatible) -> String {
    use PeerIncompatible as P;
    match reason {
        P::ServerDoesNotSupportTls12Or13 | P::ServerTlsVersionIsDisabledByOurConfig | P::Tls12NotOfferedOrEnabled => {
            NO_VERSION.to_owned()
        }
        other => format!("the broker and this client have too little of TLS in common: {other:?}"),
    }
}

/// `BadCertificate` as "bad certificate".
fn words(alert: Alert) -> String {
    let mut words = String::new();
    for letter in format!("{alert:?}").chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() && !words.ends_with('C') {
            words.push(' ');
        }
        words.push(letter);
    }
    words.to_lowercase()
}

/// Days and months from seconds, by Hinnant's algorithm: years begin in March, so that the odd day is the last.
fn date(time: UnixTime) -> String {
    let (days, seconds) = (time.as_secs() / 86_400, time.as_secs() % 86_400);
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (seconds / 3600, seconds / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |seconds| date(UnixTime::since_unix_epoch(Duration::from_secs(seconds)));
        assert_eq!(at(0), "1970-01-01 00:00 UTC");
        assert_eq!(at(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(at(951_868_800), "2000-03-01 00:00 UTC");
        assert_eq!(at(1_735_689_599), "2024-12-31 23:59 UTC");
        assert_eq!(at(4_102_444_800), "2100-01-01 00:00 UTC");
    }

    #[test]
    fn alerts_are_words() {
        assert_eq!(words(Alert::BadCertificate), "bad certificate");
        assert_eq!(words(Alert::UnknownCA), "unknown ca");
        assert_eq!(words(Alert::CertificateRequired), "certificate required");
    }
}
