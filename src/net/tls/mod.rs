//! What is trusted, and who we are to those who ask: certificates, keys, and when they are read again.

/// How connections are encrypted, and who is trusted. Kafka: `security.protocol=SSL` or `SASL_SSL`, and `ssl.*`.
#[derive(Debug, Clone, Default)]
pub struct Tls {}

impl Tls {
    /// Verifies brokers by the roots that browsers trust.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}
