//! The way of a request: authentication, what the host keeps for itself, the function's route, and then the handler as
//! it is. The host uses YARP for the last step; this keeps to its retries, time-out and headers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, Request, Response, StatusCode};
use futures_util::{StreamExt, stream};
use hyper::body::Incoming;

use super::easy_auth::EasyAuth;
use super::package::{Package, Routed};
use super::worker::{State, Worker, connect};

const ATTEMPTS: u32 = 10;
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// Headers of one connection only (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

pub(super) struct Forward {
    pub(super) package: Arc<Package>,
    pub(super) settings: Vec<(String, String)>,
    pub(super) easy_auth: EasyAuth,
    pub(super) worker: Worker,
    pub(super) activity_timeout: Duration,
    pub(super) twice: AtomicBool,
    pub(super) delivered: AtomicUsize,
}

impl Forward {
    pub(super) async fn answer(&self, request: Request<Incoming>, client: SocketAddr) -> Response<Body> {
        let mut request = request.map(Body::new);
        let path = request.uri().path().to_owned();
        if let Some(answer) = self.easy_auth.pass(&path, request.headers_mut(), &self.settings) {
            return answer;
        }
        if self.worker.state() == State::ShutDown {
            return says(StatusCode::SERVICE_UNAVAILABLE, "Function host is not running.");
        }
        let first = path.split('/').nth(1).unwrap_or_default();
        if first.eq_ignore_ascii_case("admin") || first.eq_ignore_ascii_case("runtime") {
            return says(StatusCode::NOT_FOUND, "");
        }
        if path == "/" && !self.homepage_disabled() {
            return says(StatusCode::OK, "Your Azure Function App is up and running.");
        }
        match self.package.route(request.method(), &path) {
            Routed::Nowhere => return says(StatusCode::NOT_FOUND, ""),
            Routed::WantsKey => return says(StatusCode::UNAUTHORIZED, ""),
            Routed::ToFunction => {}
        }
        let (parts, body) = request.into_parts();
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let headers = self.headers(&parts.headers, client);
        let build = |body: Body| {
            let mut forwarded = Request::builder().method(parts.method.clone()).uri(&target).body(body).unwrap();
            *forwarded.headers_mut() = headers.clone();
            forwarded
        };
        if parts.method == Method::POST && self.twice.load(Ordering::SeqCst) {
            let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
                return says(StatusCode::BAD_REQUEST, "");
            };
            let first = self.deliver(|| Some(build(Body::from(body.clone())))).await;
            let _ = axum::body::to_bytes(first.into_body(), usize::MAX).await;
            return self.deliver(|| Some(build(Body::from(body.clone())))).await;
        }
        if body.is_end_stream() {
            return self.deliver(|| Some(build(Body::empty()))).await;
        }
        // A body that began to flow can not be sent again.
        let mut body = Some(body);
        self.deliver(|| body.take().map(&build)).await
    }

    fn homepage_disabled(&self) -> bool {
        let mut settings = self.settings.iter();
        settings.any(|(name, value)| name == "AzureWebJobsDisableHomepage" && value.eq_ignore_ascii_case("true"))
    }

    fn headers(&self, from: &HeaderMap, client: SocketAddr) -> HeaderMap {
        let named = from.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
        let named: Vec<String> =
            named.flat_map(|value| value.split(',')).map(|name| name.trim().to_lowercase()).collect();
        let mut headers = from.clone();
        for name in HOP_BY_HOP.into_iter().chain(named.iter().map(String::as_str)) {
            headers.remove(name);
        }
        let invocation = super::random_uuid();
        let host = from.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
        for (name, value) in [
            ("x-azure-functions-invocationid", invocation.clone()),
            ("x-ms-invocation-id", invocation),
            ("x-azure-functions-hostversion", "4.1048.200".to_owned()),
            ("x-forwarded-for", client.to_string()),
            ("x-forwarded-proto", "https".to_owned()),
            ("x-forwarded-host", host),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap());
        }
        headers
    }

    /// Attempts until one is answered. `build` gives the request as often as it can be sent.
    async fn deliver(&self, mut build: impl FnMut() -> Option<Request<Body>>) -> Response<Body> {
        let mut wait = FIRST_WAIT;
        for _ in 0..ATTEMPTS {
            if let Ok(mut handler) = connect(self.worker.address()).await {
                let Some(request) = build() else { break };
                match tokio::time::timeout(self.activity_timeout, handler.send_request(request)).await {
                    Ok(Ok(response)) => {
                        self.delivered.fetch_add(1, Ordering::SeqCst);
                        return self.stream(response);
                    }
                    Ok(Err(_)) => {}
                    Err(_) => return says(StatusCode::GATEWAY_TIMEOUT, ""),
                }
            }
            tokio::time::sleep(wait).await;
            wait = LONGEST_WAIT.min(wait * 2);
        }
        says(StatusCode::BAD_GATEWAY, "")
    }

    /// The answer as it comes. It breaks off where nothing came for too long.
    fn stream(&self, response: Response<Incoming>) -> Response<Body> {
        let timeout = self.activity_timeout;
        let (mut parts, body) = response.into_parts();
        for name in HOP_BY_HOP {
            parts.headers.remove(name);
        }
        let pieces = stream::unfold(Some(Body::new(body).into_data_stream()), move |body| async move {
            let mut body = body?;
            match tokio::time::timeout(timeout, body.next()).await {
                Ok(Some(Ok(piece))) => Some((Ok::<Bytes, _>(piece), Some(body))),
                Ok(Some(Err(error))) => Some((Err(std::io::Error::other(error)), None)),
                Ok(None) => None,
                Err(_) => Some((Err(std::io::ErrorKind::TimedOut.into()), None)),
            }
        });
        Response::from_parts(parts, Body::from_stream(pieces))
    }
}

fn says(status: StatusCode, text: &'static str) -> Response<Body> {
    Response::builder().status(status).body(Body::from(text)).unwrap()
}
