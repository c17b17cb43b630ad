//! Text that nobody may see.

use std::{fmt, hint::black_box};

use zeroize::Zeroizing;

/// A password or token: not shown by `Debug`, in logs or errors, and wiped from memory when it is dropped.
///
/// What is made from a `String` takes over its memory; of a `&str`, the original stays where it is. There is no `Display`,
/// so that it comes into no text by accident. Two are compared in a time that depends on their lengths only.
///
/// ```
/// let password = klamm::Secret::new("open sesame");
/// assert_eq!(format!("{password:?}"), "Secret(***)");
/// assert_eq!(password.expose(), "open sesame");
/// ```
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes it over.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(Zeroizing::new(secret.into()))
    }

    /// For who has to send it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        is_equal(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl Eq for Secret {}

impl<T: Into<String>> From<T> for Secret {
    fn from(secret: T) -> Self {
        Self::new(secret)
    }
}

/// Looks at every byte, whichever differs.
fn is_equal(one: &[u8], other: &[u8]) -> bool {
    let differing = |all, (one, other): (&u8, &u8)| black_box(all | (one ^ other));
    one.len() == other.len() && one.iter().zip(other).fold(0, differing) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_equal_when_all_of_them_is() {
        let secret = Secret::new("sesame");
        assert_eq!(secret, Secret::from("sesame".to_owned()));
        for other in ["", "sesam", "sesame ", "Sesame", "sesamE", "sesbme"] {
            assert_ne!(secret, Secret::from(other), "{other}");
        }
        assert_eq!(Secret::new(""), Secret::new(""));
    }

    #[test]
    fn a_secret_is_wiped_when_it_is_dropped() {
        fn is_wiped<T: zeroize::ZeroizeOnDrop>(_: &T) {}
        is_wiped(&Secret::new("sesame").0);
    }

    #[test]
    fn debug_does_not_even_tell_its_length() {
        assert_eq!(
            format!("{:?}", Secret::new("")),
            format!("{:#?}", Secret::new("sesame"))
        );
    }
}
