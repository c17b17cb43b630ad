//! When requests and their answers pass by.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::support::{Asked, Fate, Proxy};

const FETCH: i16 = 1;
const HEARTBEATS: [i16; 2] = [12, 68];

/// Of all clients that pass a proxy: what they asked, and when.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// By connection and correlation ID.
    asked: HashMap<(usize, i32), Request>,
    answered: Vec<(Request, Instant)>,
}

struct Request {
    client: String,
    api_key: i16,
    at: Instant,
}

impl Watch {
    pub(crate) fn over(proxy: &Proxy) -> Self {
        let watch = Self(Arc::default());
        let (asking, answering) = (watch.clone(), watch.clone());
        proxy.on_request(move |asked, bytes| {
            asking.see_request(asked, bytes);
            Fate::Forward
        });
        proxy.on_answer(move |asked, _| {
            answering.see_answer(asked);
            Fate::Forward
        });
        watch
    }

    /// Whether a Fetch of this client is waiting in the broker.
    pub(crate) fn is_fetching(&self, client: &str) -> bool {
        self.lock().asked.values().any(|request| request.is(client, &[FETCH]))
    }

    /// How many of the client's Fetches were in the broker during this time, on average: each lane has one.
    pub(crate) fn fetches_waiting(&self, client: &str, begun: Instant, ended: Instant) -> f64 {
        let seen = self.lock();
        let waiting = seen.asked.values().map(|request| (request, ended));
        let over = seen.answered.iter().map(|(request, answered)| (request, *answered));
        let within = waiting
            .chain(over)
            .filter(|(request, _)| request.is(client, &[FETCH]))
            .map(|(request, answered)| answered.min(ended).saturating_duration_since(request.at.max(begun)));
        within.sum::<Duration>().as_secs_f64() / (ended - begun).as_secs_f64()
    }

    /// How long the answers to the client's heartbeats took.
    pub(crate) fn heartbeats(&self, client: &str, begun: Instant, ended: Instant) -> Vec<Duration> {
        let seen = self.lock();
        let heartbeats = seen
            .answered
            .iter()
            .filter(|(request, answered)| request.is(client, &HEARTBEATS) && request.at >= begun && *answered <= ended);
        heartbeats.map(|(request, answered)| *answered - request.at).collect()
    }

    fn see_request(&self, asked: Asked, bytes: &[u8]) {
        let request = Request {
            client: client_id(bytes).unwrap_or_default(),
            api_key: asked.api_key,
            at: Instant::now(),
        };
        self.lock().asked.insert((asked.connection, asked.correlation), request);
    }

    fn see_answer(&self, asked: Asked) {
        let now = Instant::now();
        let mut seen = self.lock();
        if let Some(request) = seen.asked.remove(&(asked.connection, asked.correlation)) {
            seen.answered.push((request, now));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request {
    fn is(&self, client: &str, api_keys: &[i16]) -> bool {
        self.client == client && api_keys.contains(&self.api_key)
    }
}

/// Behind the API key, its version and the correlation ID.
fn client_id(request: &[u8]) -> Option<String> {
    let rest = request.get(8..)?;
    let (length, rest) = rest.split_first_chunk()?;
    let id = rest.get(..usize::try_from(i16::from_be_bytes(*length)).ok()?)?;
    Some(String::from_utf8_lossy(id).into_owned())
}
