//! A request's body, read whole before anything else happens with it: within its size and its time, or answered with
//! why not. From then on the connection counts as one that asks.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, CONTENT_LENGTH};
use axum::middleware::Next;
use axum::response::Response;
use bytes::BytesMut;
use hyper::body::{Frame, SizeHint};

use super::connections::{Asking, Conversation};
use super::malformed::refused;

/// How long a client may take to send a body.
const SENDING: Duration = Duration::from_secs(15);

/// Why there is no body.
enum Unread {
    TooLarge,
    BrokenOff,
}

/// An answer during which the connection asks.
struct Answer {
    body: Body,
    _asking: Asking,
}

/// Reads the body, of `most` bytes at most.
pub(super) async fn read_whole(State(most): State<usize>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let said = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let read = match said.is_some_and(|said| said > most as u64) {
        true => Ok(Err(Unread::TooLarge)),
        false => tokio::time::timeout(SENDING, whole(body, most)).await,
    };
    let body = match read {
        Ok(Ok(body)) => body,
        Ok(Err(Unread::TooLarge)) => {
            return closing(StatusCode::PAYLOAD_TOO_LARGE, &format!("The body has more than {most} bytes."));
        }
        Ok(Err(Unread::BrokenOff)) => return closing(StatusCode::BAD_REQUEST, "The body breaks off."),
        Err(_) => {
            let sentence = format!("The body did not come in {} seconds.", SENDING.as_secs());
            return closing(StatusCode::REQUEST_TIMEOUT, &sentence);
        }
    };
    let asking = parts.extensions.remove::<Conversation>().map(Conversation::asks);
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    match asking {
        Some(asking) => response.map(|body| Body::new(Answer { body, _asking: asking })),
        None => response,
    }
}

async fn whole(mut body: Body, most: usize) -> Result<Bytes, Unread> {
    let mut read = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        // Trailers mean nothing here.
        let Ok(data) = frame.map_err(|_| Unread::BrokenOff)?.into_data() else { continue };
        if data.len() > most - read.len() {
            return Err(Unread::TooLarge);
        }
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}

/// What is left of the body is read by nobody, so the connection ends (RFC 9112 section 9.3).
fn closing(status: StatusCode, sentence: &str) -> Response {
    let mut response = refused(status, sentence);
    response.headers_mut().insert(CONNECTION, axum::http::HeaderValue::from_static("close"));
    response
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
