//! What is made of a password, and what it proves.

use std::{
    num::NonZeroU32,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use ring::{
    digest, hmac, pbkdf2,
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

use crate::net::sasl::{BoxError, Credentials};

/// From the operating system.
pub(super) fn fill_random(bytes: &mut [u8]) -> Result<(), BoxError> {
    let filled = SystemRandom::new().fill(bytes);
    filled.map_err(|_| "the operating system has no random bytes".into())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::net::sasl) enum Hash {
    Sha256,
    Sha512,
    /// That of the example in RFC 5802; no broker of Kafka has it.
    #[cfg(test)]
    Sha1,
}

impl Hash {
    pub(super) fn mechanism(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
            #[cfg(test)]
            Self::Sha1 => "SCRAM-SHA-1",
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
            #[cfg(test)]
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
            #[cfg(test)]
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        }
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
            #[cfg(test)]
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
        }
    }

    fn sign(self, key: &[u8], message: &[u8]) -> hmac::Tag {
        hmac::sign(&hmac::Key::new(self.hmac(), key), message)
    }
}

/// What proves that one knows a password, for one salt. Wiped when dropped; ring's own copies of it, on the stack and
/// for the time of a call, are not.
pub(super) struct Keys {
    hash: Hash,
    client: Zeroizing<Vec<u8>>,
    server: Zeroizing<Vec<u8>>,
}

impl Keys {
    fn derive(hash: Hash, password: &str, salt: &[u8], iterations: u32) -> Self {
        let mut salted = Zeroizing::new(vec![0; hash.digest().output_len()]);
        let iterations = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        pbkdf2::derive(hash.pbkdf2(), iterations, salt, password.as_bytes(), &mut salted);
        let key = |name: &[u8]| Zeroizing::new(hash.sign(&salted, name).as_ref().to_vec());
        Self {
            hash,
            client: key(b"Client Key"),
            server: key(b"Server Key"),
        }
    }

    /// That we know the password, of all that was exchanged.
    pub(super) fn proof(&self, exchanged: &[u8]) -> Vec<u8> {
        let stored = digest::digest(self.hash.digest(), &self.client);
        let signature = self.hash.sign(stored.as_ref(), exchanged);
        let both = self.client.iter().zip(signature.as_ref());
        both.map(|(key, signature)| key ^ signature).collect()
    }

    /// Whether the broker knows it. In constant time.
    pub(super) fn is_signed(&self, exchanged: &[u8], signature: &[u8]) -> bool {
        let key = hmac::Key::new(self.hash.hmac(), &self.server);
        hmac::verify(&key, exchanged, signature).is_ok()
    }
}

/// Keys that were derived before: deriving takes milliseconds by design, and each connection wants the same ones.
#[derive(Default)]
pub(super) struct Derived {
    /// The latest ones last.
    of: Mutex<Vec<Arc<Entry>>>,
    /// Of fingerprints.
    key: OnceLock<Zeroizing<[u8; 32]>>,
}

struct Entry {
    hash: Hash,
    user: String,
    /// Tells one password from another, and no more.
    password: Fingerprint,
    salt: Vec<u8>,
    iterations: u32,
    keys: OnceLock<Arc<Keys>>,
}

/// Of a password, under a key that was made up for it and lives as long as what it is compared with.
#[derive(Clone, PartialEq, Eq)]
struct Fingerprint([u8; 32]);

/// A cluster has one salt for a user. More than a few are those of several clusters, or of somebody who makes them up.
const MOST: usize = 8;

impl Derived {
    /// The first to ask for them derives them, outside of the lock; others that want the same ones wait for that.
    pub(super) fn keys(&self, hash: Hash, credentials: &Credentials, salt: &[u8], iterations: u32) -> Arc<Keys> {
        let entry = self.entry(hash, credentials, salt, iterations);
        let derive = || Arc::new(Keys::derive(hash, credentials.password.expose(), salt, iterations));
        Arc::clone(entry.keys.get_or_init(derive))
    }

    fn entry(&self, hash: Hash, credentials: &Credentials, salt: &[u8], iterations: u32) -> Arc<Entry> {
        let password = self.fingerprint(credentials);
        let mut of = self.of.lock();
        let known = of.iter().position(|entry| {
            entry.is_of(hash, &credentials.user, salt) && entry.password == password && entry.iterations == iterations
        });
        let entry = match known {
            Some(at) => of.remove(at),
            None => Arc::new(Entry {
                hash,
                user: credentials.user.clone(),
                password,
                salt: salt.to_vec(),
                iterations,
                keys: OnceLock::new(),
            }),
        };
        // What a user's former password has left. With another salt it may be another cluster's.
        of.retain(|other| !other.is_of(hash, &credentials.user, salt) || other.password == entry.password);
        if of.len() == MOST {
            of.remove(0);
        }
        of.push(Arc::clone(&entry));
        entry
    }

    fn fingerprint(&self, credentials: &Credentials) -> Fingerprint {
        let key = self.key.get_or_init(|| {
            let mut key = Zeroizing::new([0; 32]);
            // Without random bytes there was no nonce either.
            fill_random(&mut *key).ok();
            key
        });
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key[..]));
        context.update(&[u8::from(credentials.is_delegation_token)]);
        context.update(credentials.password.expose().as_bytes());
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.sign().as_ref());
        Fingerprint(fingerprint)
    }
}

impl Entry {
    fn is_of(&self, hash: Hash, user: &str, salt: &[u8]) -> bool {
        self.hash == hash && self.user == user && self.salt == salt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(derived: &Derived, user: &str, password: &str, salt: &[u8]) -> Arc<Keys> {
        derived.keys(Hash::Sha256, &Credentials::new(user, password), salt, 4096)
    }

    #[test]
    fn keys_are_derived_once_for_a_password_and_a_salt() {
        let derived = Derived::default();
        let first = keys(&derived, "a", "sesame", b"salt");
        assert!(Arc::ptr_eq(&first, &keys(&derived, "a", "sesame", b"salt")));
        assert!(!Arc::ptr_eq(&first, &keys(&derived, "a", "sesame", b"sal2")));
        assert!(!Arc::ptr_eq(&first, &keys(&derived, "b", "sesame", b"salt")));
        let more = derived.keys(Hash::Sha256, &Credentials::new("a", "sesame"), b"salt", 4097);
        assert!(!Arc::ptr_eq(&first, &more));
        assert!(Arc::ptr_eq(&first, &keys(&derived, "a", "sesame", b"salt")));
    }

    #[test]
    fn keys_of_one_hash_are_not_those_of_another() {
        let derived = Derived::default();
        let credentials = Credentials::new("a", "sesame");
        let of = |hash| derived.keys(hash, &credentials, b"salt", 4096).client.len();
        assert_eq!((of(Hash::Sha256), of(Hash::Sha512), of(Hash::Sha256)), (32, 64, 32));
        assert_eq!(derived.of.lock().len(), 2);
    }

    #[test]
    fn a_new_password_leaves_nothing_of_the_old_one() {
        let derived = Derived::default();
        let old = keys(&derived, "a", "sesame", b"salt");
        keys(&derived, "b", "other", b"salt");
        let new = keys(&derived, "a", "sesam", b"salt");
        assert!(!Arc::ptr_eq(&old, &new) && *old.client != *new.client);
        assert_eq!(Arc::strong_count(&old), 1);
        assert_eq!(derived.of.lock().len(), 2);
    }

    #[test]
    fn a_user_of_two_clusters_has_two_passwords() {
        let derived = Derived::default();
        let one = keys(&derived, "a", "sesame", b"salt");
        let other = keys(&derived, "a", "open", b"sal2");
        assert!(Arc::ptr_eq(&one, &keys(&derived, "a", "sesame", b"salt")));
        assert!(Arc::ptr_eq(&other, &keys(&derived, "a", "open", b"sal2")));
    }

    #[test]
    fn a_delegation_token_is_no_password() {
        let derived = Derived::default();
        let password = keys(&derived, "a", "sesame", b"salt");
        let token = Credentials::delegation_token("a", "sesame");
        assert!(!Arc::ptr_eq(
            &password,
            &derived.keys(Hash::Sha256, &token, b"salt", 4096)
        ));
    }

    #[test]
    fn salts_that_are_made_up_push_out_the_oldest() {
        let derived = Derived::default();
        let credentials = Credentials::new("a", "sesame");
        let first = derived.entry(Hash::Sha256, &credentials, &[0], 4096);
        for salt in 0..100 {
            derived.entry(Hash::Sha256, &credentials, &[salt], 4096);
            assert!(derived.of.lock().len() <= MOST);
        }
        assert_eq!(Arc::strong_count(&first), 1);
        let last = derived.entry(Hash::Sha256, &credentials, &[99], 4096);
        assert_eq!(Arc::strong_count(&last), 2, "it was still there");
    }

    #[test]
    fn many_that_begin_at_once_share_one_derivation() {
        let derived = Derived::default();
        let all: Vec<_> = std::thread::scope(|scope| {
            let one = || scope.spawn(|| keys(&derived, "a", "sesame", b"salt"));
            let threads: Vec<_> = std::iter::repeat_with(one).take(8).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.windows(2).all(|two| Arc::ptr_eq(&two[0], &two[1])));
    }
}
