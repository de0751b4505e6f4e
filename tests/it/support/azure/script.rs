//! What every fake service has: faults that a test sets, and a record of what was asked.

use std::collections::VecDeque;
use std::sync::Mutex;

use axum::Json;
use axum::http::header::{HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

/// Faults to answer with, in place of what would be right.
pub struct Faults<F>(Mutex<Script<F>>);

struct Script<F> {
    next: VecDeque<F>,
    then: Option<F>,
}

impl<F: Clone> Faults<F> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Script { next: VecDeque::new(), then: None }))
    }

    /// Every request from now on, until [`Self::end`].
    pub fn always(&self, fault: F) {
        self.0.lock().unwrap().then = Some(fault);
    }

    /// The next requests only.
    pub fn times(&self, times: usize, fault: F) {
        self.0.lock().unwrap().next.extend(std::iter::repeat_n(fault, times));
    }

    /// All is well again.
    pub fn end(&self) {
        *self.0.lock().unwrap() = Script { next: VecDeque::new(), then: None };
    }

    /// The fault of this request.
    pub(super) fn take(&self) -> Option<F> {
        let mut script = self.0.lock().unwrap();
        script.next.pop_front().or_else(|| script.then.clone())
    }
}

/// A request that came, and what was answered. `status` 0: nothing yet, or nothing ever.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub status: u16,
}

/// All requests to a service, in the order in which they came.
#[derive(Default)]
pub struct Requests(Mutex<Vec<Asked>>);

impl Requests {
    pub fn all(&self) -> Vec<Asked> {
        self.0.lock().unwrap().clone()
    }

    /// How many there were for a path, whatever was answered.
    pub fn to(&self, path: &str) -> usize {
        self.count(|asked| asked.path == path)
    }

    pub fn count(&self, counted: impl Fn(&Asked) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|asked| counted(asked)).count()
    }

    /// Notes a request before it is answered: one that hangs was asked too.
    pub(super) fn note(&self, method: &Method, path: &str, query: &str) -> usize {
        let asked = Asked { method: method.clone(), path: path.to_owned(), query: query.to_owned(), status: 0 };
        let mut all = self.0.lock().unwrap();
        all.push(asked);
        all.len() - 1
    }

    pub(super) fn answered(&self, number: usize, response: Response) -> Response {
        self.0.lock().unwrap()[number].status = response.status().as_u16();
        response
    }
}

/// An answer in JSON.
pub(super) fn says(status: u16, headers: &[(&'static str, &str)], body: Value) -> Response {
    let mut response = (StatusCode::from_u16(status).unwrap(), Json(body)).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    response
}
