//! SCRAM (RFC 5802, RFC 7677) from the server's side, as far as Kafka has it: no channel binding.

use std::num::NonZeroU32;

use ring::{
    digest, hmac, pbkdf2,
    rand::{SecureRandom, SystemRandom},
};

use super::{Failure, base64, check_claim};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

/// The fewest that Kafka allows, and its default.
const ITERATIONS: u32 = 4096;

impl Hash {
    pub(super) const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    pub(super) fn mechanism(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// From a password to what both sides derive their keys from.
    pub(super) fn salted(self, password: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let mut salted = vec![0; self.digest(b"").len()];
        let iterations = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        pbkdf2::derive(algorithm, iterations, salt, password.as_bytes(), &mut salted);
        salted
    }

    pub(super) fn hmac(self, key: &[u8], text: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), text).as_ref().to_vec()
    }

    pub(super) fn digest(self, bytes: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, bytes).as_ref().to_vec()
    }
}

/// What a server keeps instead of a password.
#[derive(Debug, Clone)]
pub(super) struct Credential {
    salt: Vec<u8>,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl Credential {
    pub(super) fn new(hash: Hash, password: &str) -> Self {
        Self::salted(hash, password, random())
    }

    pub(super) fn salted(hash: Hash, password: &str, salt: Vec<u8>) -> Self {
        let salted = hash.salted(password, &salt, ITERATIONS);
        Self {
            salt,
            stored_key: hash.digest(&hash.hmac(&salted, b"Client Key")),
            server_key: hash.hmac(&salted, b"Server Key"),
        }
    }
}

/// What a server adds to the client's nonce.
pub(super) fn nonce() -> String {
    base64::encode(&random())
}

fn random() -> Vec<u8> {
    let mut bytes = vec![0; 18];
    // Nothing here is a secret: should the system have no randomness, the same bytes do as well.
    SystemRandom::new().fill(&mut bytes).ok();
    bytes
}

/// The client has said who it is, and is to prove it.
#[derive(Debug)]
pub(super) struct Pending {
    hash: Hash,
    pub(super) user: String,
    credential: Credential,
    nonce: String,
    /// The first message of each side, as both sign them.
    client_first: String,
    server_first: String,
}

impl Pending {
    pub(super) fn new(
        hash: Hash,
        token: &[u8],
        nonce: &str,
        find: impl FnOnce(&str) -> Option<Credential>,
    ) -> Result<Self, Failure> {
        let first = ClientFirst::parse(token).ok_or(Failure::Silent)?;
        let credential = find(&first.user).ok_or(Failure::Silent)?;
        check_claim(&first.claimed, &first.user)?;
        let nonce = first.nonce + nonce;
        let salt = base64::encode(&credential.salt);
        Ok(Self {
            hash,
            user: first.user,
            credential,
            server_first: format!("r={nonce},s={salt},i={ITERATIONS}"),
            nonce,
            client_first: first.bare,
        })
    }

    pub(super) fn challenge(&self) -> Vec<u8> {
        self.server_first.as_bytes().to_vec()
    }

    /// Whether the proof is one; the server's own, if so.
    pub(super) fn check(&self, token: &[u8]) -> Result<Vec<u8>, Failure> {
        let message = std::str::from_utf8(token).map_err(|_| Failure::Silent)?;
        let (signed, proof) = message.rsplit_once(",p=").ok_or(Failure::Silent)?;
        let mut fields = signed.split(',');
        let binding = fields.next().and_then(|field| field.strip_prefix("c="));
        let nonce = fields.next().and_then(|field| field.strip_prefix("r="));
        if binding.and_then(base64::decode).is_none() || nonce != Some(&self.nonce) {
            return Err(Failure::Silent);
        }
        let proof = base64::decode(proof).ok_or(Failure::Silent)?;
        let Credential {
            stored_key, server_key, ..
        } = &self.credential;
        let both = format!("{},{},{signed}", self.client_first, self.server_first);
        let signature = self.hash.hmac(stored_key, both.as_bytes());
        let client_key = xor(&proof, &signature);
        if proof.len() != signature.len() || self.hash.digest(&client_key) != *stored_key {
            return Err(Failure::Silent);
        }
        let signature = self.hash.hmac(server_key, both.as_bytes());
        Ok(format!("v={}", base64::encode(&signature)).into_bytes())
    }
}

pub(super) fn xor(one: &[u8], other: &[u8]) -> Vec<u8> {
    one.iter().zip(other).map(|(one, other)| one ^ other).collect()
}

/// `n,[a=…],n=user,r=nonce[,…]`
struct ClientFirst {
    claimed: String,
    user: String,
    nonce: String,
    /// Without what stands before `n=`.
    bare: String,
}

impl ClientFirst {
    fn parse(token: &[u8]) -> Option<Self> {
        let message = std::str::from_utf8(token).ok()?;
        let (claimed, bare) = message.strip_prefix("n,")?.split_once(',')?;
        let claimed = match claimed {
            "" => "",
            claimed => claimed.strip_prefix("a=")?,
        };
        let mut fields = bare.split(',');
        let user = fields.next()?.strip_prefix("n=")?;
        let nonce = fields.next()?.strip_prefix("r=")?;
        Some(Self {
            claimed: name(claimed),
            user: name(user),
            nonce: nonce.to_owned(),
            bare: bare.to_owned(),
        })
    }
}

/// Commas and equals signs are written in another way, so that fields can be told apart.
fn name(field: &str) -> String {
    field.replace("=2C", ",").replace("=3D", "=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_s_example_is_understood() {
        let salt = base64::decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let credential = Credential::salted(Hash::Sha256, "pencil", salt);
        let find = |user: &str| (user == "user").then_some(credential);
        let first = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
        let pending = Pending::new(Hash::Sha256, first, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", find).unwrap();
        assert_eq!(
            pending.challenge(),
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let answer = pending.check(last.as_bytes()).unwrap();
        assert_eq!(answer, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        for wrong in [
            last.replace("p=d", "p=e"),
            last.replace("k0,", "k1,"),
            last.replace("c=biws", "c=!"),
            last.replace("dHzb", ""),
            "e=other-error".to_owned(),
        ] {
            assert!(pending.check(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_first_message_that_is_none_is_not_taken_for_one() {
        for wrong in ["", "n,,", "y,,n=a,r=b", "n,b=c,n=a,r=b", "n,,r=b,n=a", "n,,n=a"] {
            assert!(ClientFirst::parse(wrong.as_bytes()).is_none(), "{wrong}");
        }
        let first = ClientFirst::parse(b"n,a=x,n=a=2Cb=3D,r=c,tokenauth=true").unwrap();
        assert_eq!((&*first.claimed, &*first.user, &*first.nonce), ("x", "a,b=", "c"));
        assert_eq!(first.bare, "n=a=2Cb=3D,r=c,tokenauth=true");
    }
}
