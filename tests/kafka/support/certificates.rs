//! Certificates for brokers and clients, good ones and every kind of bad one, made anew in each run.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// Who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with what signed it, and its key, both as PEM.
#[derive(Clone)]
pub struct Identity {
    pub chain: String,
    pub key: String,
}

/// When a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    Now,
    Over,
    NotYet,
}

/// All names under which brokers of tests are reached.
pub const LOOPBACK: [&str; 2] = ["localhost", "127.0.0.1"];

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = params(name, &[], Validity::Now);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// What those trust who trust this authority.
    pub fn root(&self) -> String {
        self.0.pem()
    }

    /// For a broker that is reached under these names.
    pub fn server(&self, names: &[&str]) -> Identity {
        self.server_while(names, Validity::Now)
    }

    pub fn server_while(&self, names: &[&str], validity: Validity) -> Identity {
        let mut params = params("broker", names, validity);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params)
    }

    /// For a client, who is `User:CN=name` to brokers.
    pub fn client(&self, name: &str) -> Identity {
        self.client_while(name, Validity::Now)
    }

    pub fn client_while(&self, name: &str, validity: Validity) -> Identity {
        let mut params = params(name, &[], validity);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    /// For a client whose key there is already, as PKCS#8.
    pub fn client_with_key(&self, name: &str, key: &str) -> Identity {
        let mut params = params(name, &[], Validity::Now);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign_key(&params, &KeyPair::from_pem(key).expect("a key"))
    }

    fn sign(&self, params: &CertificateParams) -> Identity {
        self.sign_key(params, &KeyPair::generate().expect("a key"))
    }

    fn sign_key(&self, params: &CertificateParams, key: &KeyPair) -> Identity {
        let certificate = params.signed_by(key, &self.0).expect("a certificate");
        Identity {
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Identity {
    /// One that nobody but itself vouches for.
    pub fn self_signed(names: &[&str]) -> Self {
        let key = KeyPair::generate().expect("a key");
        let certificate = params("broker", names, Validity::Now).self_signed(&key);
        Self {
            chain: certificate.expect("a certificate").pem(),
            key: key.serialize_pem(),
        }
    }

    /// Both in one file, as Kafka takes them.
    pub fn keystore(&self) -> String {
        format!("{}{}", self.key, self.chain)
    }

    /// In two files, as most others take them; their paths.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let [chain, key] = ["chain", "key"].map(|kind| folder.join(format!("{name}-{kind}.pem")));
        std::fs::write(&chain, &self.chain).expect("a certificate can be written");
        std::fs::write(&key, &self.key).expect("a key can be written");
        (chain, key)
    }
}

fn params(name: &str, names: &[&str], validity: Validity) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names of hosts");
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    let (from, to) = match validity {
        Validity::Now => (2000, 2100),
        Validity::Over => (2000, 2001),
        Validity::NotYet => (2100, 2101),
    };
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(to, 1, 1);
    params.use_authority_key_identifier_extension = true;
    params
}
