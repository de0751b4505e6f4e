//! Entra is slow, down, and back: callers get a time to try again, and keys that are known stay good for a week.

use std::time::Duration;

use rowgate::identity::{EntraSettings, EntraVerifier};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::{Entra, LONG, NEW, OBJECT, OLD, Reply, later, names, refused, retry_after};

#[tokio::test]
async fn who_asked_first_can_leave() {
    let entra = Entra::start(Reply::Hangs).await;
    let verifier = entra.verifier();
    let token = OLD.token(&entra.claims());
    let mut first = Box::pin(verifier.verify(&token));
    tokio::select! {
        _ = &mut first => panic!("there is no answer yet"),
        () = entra.was_asked(1) => {}
    }
    drop(first);
    // The request goes on and fails without anybody; then others can ask.
    entra.publish(&[&OLD]);
    let second = tokio::join!(names(&verifier, &token), later(Duration::from_secs(5))).0;
    assert_eq!(retry_after(&second.unwrap_err()), 5);
    assert_eq!(entra.requests(), 1);
    later(Duration::from_secs(5)).await;
    assert_eq!(names(&verifier, &token).await.unwrap(), [OBJECT]);
    assert_eq!(entra.requests(), 2);
}

#[tokio::test]
async fn entra_is_down_and_back() {
    // An address of our own at which nothing listens.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let entra = Entra::start(Reply::Says(503, "busy".into())).await;
    let verifier =
        EntraVerifier::new(EntraSettings { authority: format!("http://{address}"), ..entra.settings() }).unwrap();
    assert_eq!(retry_after(&refused(&verifier, &OLD.token(&entra.claims())).await), 5);

    let verifier = entra.verifier();
    let (old, new) = (OLD.token(&entra.claims()), NEW.token(&entra.claims()));
    for _ in 0..100 {
        assert!((4..=5).contains(&retry_after(&refused(&verifier, &old).await)));
    }
    assert_eq!(entra.requests(), 1);
    entra.publish(&[&OLD]);
    later(Duration::from_secs(3)).await;
    assert!((1..=2).contains(&retry_after(&refused(&verifier, &old).await)));
    assert_eq!(entra.requests(), 1);
    later(Duration::from_secs(2)).await;
    assert_eq!(names(&verifier, &old).await.unwrap(), [OBJECT]);
    assert_eq!(entra.requests(), 2);

    // Down again: what is known goes on; of what is not, nobody can tell.
    entra.will(Reply::Says(500, String::new()));
    assert!((59..=60).contains(&retry_after(&refused(&verifier, &new).await)));
    for _ in 0..100 {
        assert!((58..=60).contains(&retry_after(&refused(&verifier, &new).await)));
        names(&verifier, &old).await.unwrap();
    }
    assert_eq!(entra.requests(), 3);
    entra.publish(&[&OLD, &NEW]);
    later(Duration::from_secs(60)).await;
    assert_eq!(names(&verifier, &new).await.unwrap(), [OBJECT]);
    assert_eq!(entra.requests(), 4);
}

#[tokio::test]
async fn keys_outlive_an_outage_of_a_week() {
    let entra = Entra::start(Reply::Keys(vec![OLD.jwk()])).await;
    let verifier = entra.verifier();
    let token = OLD.token(&entra.claims());
    names(&verifier, &token).await.unwrap();
    entra.will(Reply::Says(200, "<html>".into()));
    for day in 1..7 {
        later(Duration::from_secs(24 * 3600)).await;
        for _ in 0..20 {
            assert_eq!(names(&verifier, &token).await.unwrap(), [OBJECT], "day {day}");
        }
        entra.was_asked(1 + day).await;
        let reading = async {
            while refused(&verifier, &NEW.token(&entra.claims())).await.retry_after().is_none() {
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, reading).await.expect("it does not fail");
        assert_eq!(entra.requests(), 1 + day);
    }
    later(Duration::from_secs(24 * 3600)).await;
    assert_eq!(retry_after(&refused(&verifier, &token).await), 5);
    entra.publish(&[&OLD]);
    later(Duration::from_secs(5)).await;
    assert_eq!(names(&verifier, &token).await.unwrap(), [OBJECT]);
}

#[tokio::test]
async fn entra_is_slow() {
    for reply in [Reply::Hangs, Reply::Stalls] {
        let entra = Entra::start(reply).await;
        let verifier = entra.verifier();
        let token = OLD.token(&entra.claims());
        let mut call = Box::pin(names(&verifier, &token));
        tokio::select! {
            _ = &mut call => panic!("there is no answer yet"),
            () = entra.was_asked(1) => {}
        }
        let before = tokio::time::Instant::now();
        later(Duration::from_secs(5)).await;
        assert_eq!(retry_after(&call.await.unwrap_err()), 5);
        // By the clock that was moved: what is left is what the machine took.
        assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
        entra.publish(&[&OLD]);
        later(Duration::from_secs(5)).await;
        assert_eq!(names(&verifier, &token).await.unwrap(), [OBJECT]);
    }
}
