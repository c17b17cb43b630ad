//! Which version of an API to speak: what the broker offers, the codec can do and klamm can work with.

use kafka_protocol::{
    messages::ApiVersionsResponse,
    protocol::{Message, Request},
};

use crate::{
    error::{Error, ErrorKind, Result},
    wire::api,
};

/// What one broker offers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Versions {
    /// (API key, first version, last version)
    offered: Vec<(i16, i16, i16)>,
}

impl Versions {
    pub(crate) fn new(answer: &ApiVersionsResponse) -> Self {
        let offered = answer.api_keys.iter();
        Self {
            offered: offered
                .map(|api| (api.api_key, api.min_version, api.max_version))
                .collect(),
        }
    }

    /// The newest version that both sides speak.
    pub(crate) fn pick<R: Request>(&self) -> Result<i16> {
        self.pick_up_to::<R>(i16::MAX)
    }

    /// The same, for a caller that cannot work with versions beyond `newest`.
    pub(crate) fn pick_up_to<R: Request>(&self, newest: i16) -> Result<i16> {
        let (first, last) = ours::<R>();
        let last = last.min(newest);
        let refuse = |theirs: &str| {
            let name = api::name(R::KEY);
            Error::new(
                ErrorKind::Unsupported,
                format!("klamm speaks versions {first} to {last} of {name}, the broker {theirs}"),
            )
        };
        let Some((from, to)) = self.offer(R::KEY) else {
            return Err(refuse("none"));
        };
        let version = last.min(to);
        if version < first.max(from) {
            return Err(refuse(&format!("{from} to {to}")));
        }
        Ok(version)
    }

    fn offer(&self, api_key: i16) -> Option<(i16, i16)> {
        let (_, from, to) = self.offered.iter().find(|(key, ..)| *key == api_key)?;
        Some((*from, *to))
    }
}

/// `ApiKey::valid_versions()` of the codec is wrong for some requests: what counts is what both of the messages can do.
pub(crate) fn ours<R: Request>() -> (i16, i16) {
    let codec = <R as Message>::VERSIONS.intersect(&<R::Response as Message>::VERSIONS);
    let api = api::of(R::KEY);
    (codec.min.max(api.first), codec.max.min(api.last))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{
        FetchRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest, api_versions_response::ApiVersion,
    };

    use super::*;

    fn offering(key: i16, min: i16, max: i16) -> Versions {
        let api = ApiVersion::default()
            .with_api_key(key)
            .with_min_version(min)
            .with_max_version(max);
        Versions::new(&ApiVersionsResponse::default().with_api_keys(vec![api]))
    }

    #[test]
    fn the_newest_common_version_is_picked() {
        assert_eq!(offering(3, 0, 7).pick::<MetadataRequest>().unwrap(), 7);
        assert_eq!(offering(3, 0, 99).pick::<MetadataRequest>().unwrap(), 13);
        assert_eq!(offering(1, 4, 18).pick_up_to::<FetchRequest>(12).unwrap(), 12);
    }

    #[test]
    fn only_what_the_encoder_can_do_is_picked() {
        assert_eq!(offering(8, 2, 10).pick::<OffsetCommitRequest>().unwrap(), 9);
        assert_eq!(offering(9, 1, 10).pick::<OffsetFetchRequest>().unwrap(), 9);
    }

    #[test]
    fn having_nothing_in_common_names_api_and_both_sides() {
        let error = offering(3, 0, 3).pick::<MetadataRequest>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(
            error.to_string(),
            "klamm speaks versions 4 to 13 of Metadata, the broker 0 to 3"
        );
        let error = Versions::default().pick::<FetchRequest>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "klamm speaks versions 4 to 18 of Fetch, the broker none"
        );
        assert!(offering(3, 9, 2).pick::<MetadataRequest>().is_err());
    }
}
