//! Another attempt: after the wait that the service asks for, for what may pass, up to a number of attempts and within
//! the deadline of the call.

use std::error::Error as StdError;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::BoxFuture;
use rowgate::embedding::{Credential, EmbeddingError, TokenSource};
use serde_json::json;

use super::{KEY, Reply, Service, busy, embed, failing, is_right, says};

#[tokio::test]
async fn waits_as_long_as_the_service_asks() {
    let service = Service::start([busy(&[("Retry-After", "1")]), Reply::Vectors]).await;
    is_right(embed(&service.embedder()).await);
    assert_eq!(service.requests(), 2);
    assert!(service.between(0, 1) >= Duration::from_secs(1), "{:?}", service.between(0, 1));

    // In milliseconds; that goes before the seconds, which Azure sends beside it.
    let service = Service::start([busy(&[("retry-after-ms", "400"), ("retry-after", "3600")]), Reply::Vectors]).await;
    is_right(embed(&service.embedder()).await);
    let waited = service.between(0, 1);
    assert!(waited >= Duration::from_millis(400) && waited < Duration::from_secs(10), "{waited:?}");

    // Until a date. It has whole seconds: two from now are at least one.
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
    let service = Service::start([says(503, &[("retry-after", &date)], json!({})), Reply::Vectors]).await;
    is_right(embed(&service.embedder()).await);
    let waited = service.between(0, 1);
    assert!(waited >= Duration::from_millis(700) && waited < Duration::from_secs(10), "{waited:?}");
}

#[tokio::test]
async fn gives_up_at_once_if_it_would_wait_too_long() {
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3600));
    for (status, name, value) in [
        (429, "retry-after", "3600"),
        (503, "retry-after-ms", "3600000"),
        (429, "retry-after", date.as_str()),
        // Within the limits of a number, but of no clock.
        (429, "retry-after", "18446744073709549568"),
    ] {
        let service = Service::start([says(status, &[(name, value)], json!({"message": "quota"}))]).await;
        let start = Instant::now();
        let error = embed(&service.embedder()).await.unwrap_err();
        let EmbeddingError::Busy { retry_after: Some(asked), message } = error else { panic!("{error:?}") };
        assert!(asked >= Duration::from_secs(3590), "{asked:?}");
        assert_eq!(message, "quota");
        assert!(start.elapsed() < Duration::from_secs(1));
        assert_eq!(service.requests(), 1);
    }
}

#[tokio::test]
async fn a_wait_that_says_nothing_is_no_wait() {
    for value in ["-1", "soon", "nan", "inf", "", "1e300", "Thu, 01 Jan 1970 00:00:00 GMT"] {
        let service = Service::start([busy(&[("retry-after", value)]), Reply::Vectors]).await;
        is_right(embed(&service.embedder()).await);
        assert_eq!(service.requests(), 2);
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    for reply in [
        failing(),
        says(408, &[], json!({})),
        says(502, &[], json!("not an object")),
        busy(&[]),
        Reply::Says(504, vec![], "<html>gateway</html>".into()),
        Reply::Breaks,
    ] {
        let service = Service::start([reply.clone(), reply, Reply::Vectors]).await;
        is_right(embed(&service.embedder()).await);
        assert_eq!(service.requests(), 3);
    }
}

#[tokio::test]
async fn attempts_have_an_end() {
    let service = Service::start([failing()]).await;
    let error = embed(&service.embedder()).await.unwrap_err();
    let EmbeddingError::Failing { status: 500, code, message } = error else { panic!("{error:?}") };
    assert_eq!((code.as_str(), message.as_str()), ("InternalServerError", "Backend returned unexpected response."));
    assert_eq!(service.requests(), 4);

    let service = Service::start([busy(&[])]).await;
    let error = embed(&service.embedder_with(Credential::Key(KEY.into()), |s| s.attempts = 2)).await.unwrap_err();
    assert!(matches!(&error, EmbeddingError::Busy { retry_after: None, message } if message.starts_with("Requests")));
    assert_eq!(service.requests(), 2);

    let service = Service::start([Reply::Breaks]).await;
    let error = embed(&service.embedder()).await.unwrap_err();
    assert!(matches!(error, EmbeddingError::Unreachable(_)), "{error:?}");
    assert_eq!(service.requests(), 4);
}

#[tokio::test]
async fn a_slow_attempt_is_left_for_another() {
    let service = Service::start([Reply::Hangs, Reply::Vectors]).await;
    let embedder = service.embedder_with(Credential::Key(KEY.into()), |settings| {
        settings.attempt_timeout = Duration::from_secs(1);
    });
    is_right(embed(&embedder).await);
    assert_eq!(service.requests(), 2);
    assert!(service.between(0, 1) >= Duration::from_millis(900), "{:?}", service.between(0, 1));
}

#[tokio::test]
async fn a_call_ends_by_its_deadline() {
    let service = Service::start([Reply::Hangs]).await;
    let embedder = service.embedder_with(Credential::Key(KEY.into()), |settings| {
        settings.attempt_timeout = Duration::from_millis(400);
        settings.deadline = Duration::from_millis(1500);
        settings.attempts = 100;
    });
    let start = Instant::now();
    let error = embed(&embedder).await.unwrap_err();
    assert!(matches!(error, EmbeddingError::TimedOut), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(service.requests() >= 2);

    // So does one that waits for a token.
    struct Never;
    impl TokenSource for Never {
        fn token(&self, _: bool) -> BoxFuture<'_, Result<String, Box<dyn StdError + Send + Sync>>> {
            Box::pin(pending())
        }
    }
    let embedder = service.embedder_with(Credential::Token(Arc::new(Never)), |settings| {
        settings.deadline = Duration::from_millis(300);
    });
    assert!(matches!(embed(&embedder).await, Err(EmbeddingError::TimedOut)));
}
