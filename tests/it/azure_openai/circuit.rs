//! A service that fails is left alone for a while; then one call tries it, and all may again if that works. A refusal
//! is no failure.

use std::sync::Arc;
use std::time::Duration;

use rowgate::embedding::{AzureOpenAi, Credential, Embedded, EmbeddingError};

use super::{KEY, Reply, Service, Tokens, busy, embed, failing, is_right, refusing, unauthorized};

fn refused_for(outcome: Result<Embedded, EmbeddingError>) -> Duration {
    let Err(EmbeddingError::CircuitOpen { retry_after }) = outcome else { panic!("{outcome:?}") };
    retry_after
}

/// Calls until one is refused without asking the service, and says how many were not.
async fn until_refused(embedder: &AzureOpenAi) -> (usize, Duration) {
    for calls in 0..100 {
        match embed(embedder).await {
            Err(EmbeddingError::Failing { .. }) => {}
            outcome => return (calls, refused_for(outcome)),
        }
    }
    panic!("the service is asked again and again");
}

/// Calls until one is not refused.
async fn until_asked(embedder: &AzureOpenAi) -> Result<Embedded, EmbeddingError> {
    loop {
        match embed(embedder).await {
            Err(EmbeddingError::CircuitOpen { retry_after }) => tokio::time::sleep(retry_after).await,
            outcome => return outcome,
        }
    }
}

// How long it is left alone is tried in `src/embedding/azure_openai/circuit.rs`, by a clock that stands still.
#[tokio::test]
async fn a_service_that_fails_is_left_alone() {
    let service = Service::start([failing()]).await;
    let embedder = service.embedder_with(Credential::Key(KEY.into()), |settings| {
        settings.attempts = 1;
        settings.deadline = Duration::from_secs(6);
    });
    let (calls, left) = until_refused(&embedder).await;
    assert!(calls >= 5 && left < Duration::from_secs(1), "{calls} calls, {left:?}");
    assert_eq!(service.requests(), calls);

    // Half-open: one tries, once, fails, and it is open again.
    let outcome = until_asked(&embedder).await;
    assert!(matches!(outcome, Err(EmbeddingError::Failing { .. })), "{outcome:?}");
    assert_eq!(service.requests(), calls + 1);

    // One tries, and what it asks is never answered: the same is asked beside it, and nobody else asks meanwhile.
    service.script.lock().unwrap().splice(.., [Reply::Hangs, Reply::Hangs, Reply::Vectors]);
    let trial = until_asked(&embedder);
    let meanwhile = async {
        while service.requests() < calls + 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        refused_for(embed(&embedder).await)
    };
    let (trial, left) = tokio::join!(trial, meanwhile);
    is_right(trial);
    assert!(left <= Duration::from_secs(6), "{left:?}");
    assert_eq!(service.requests(), calls + 4);

    // It worked, so all may again; five more failures are needed.
    is_right(embed(&embedder).await);
    service.script.lock().unwrap().splice(.., [failing()]);
    assert!(until_refused(&embedder).await.0 >= 5);
}

#[tokio::test]
async fn a_trial_that_is_not_answered_ends() {
    let service = Service::start([failing()]).await;
    let embedder = service.embedder_with(Credential::Key(KEY.into()), |settings| {
        settings.attempts = 1;
        settings.attempt_timeout = Duration::from_secs(1);
    });
    until_refused(&embedder).await;
    service.script.lock().unwrap().splice(.., [Reply::Hangs]);
    assert!(matches!(until_asked(&embedder).await, Err(EmbeddingError::TimedOut)));
    service.script.lock().unwrap().splice(.., [Reply::Vectors]);
    is_right(until_asked(&embedder).await);
}

#[tokio::test]
async fn a_trial_may_need_another_token() {
    let service = Service::start([failing()]).await;
    let tokens = Arc::<Tokens>::default();
    let embedder = service.embedder_with(Credential::Token(tokens), |settings| settings.attempts = 1);
    until_refused(&embedder).await;
    service.script.lock().unwrap().splice(.., [unauthorized(), Reply::Vectors]);
    is_right(until_asked(&embedder).await);
}

#[tokio::test]
async fn a_service_that_asks_for_it_is_left_alone_for_longer() {
    for (asked, least, most) in [("60", 58, 60), ("86400", 298, 300)] {
        let service = Service::start([busy(&[("retry-after", asked)])]).await;
        let embedder = service.embedder();
        for _ in 0..5 {
            assert!(matches!(embed(&embedder).await, Err(EmbeddingError::Busy { .. })));
        }
        let left = refused_for(embed(&embedder).await);
        assert!(left > Duration::from_secs(least) && left <= Duration::from_secs(most), "{left:?}");
        assert_eq!(service.requests(), 5);
    }
}

#[tokio::test]
async fn refusals_leave_the_circuit_closed() {
    let mut script = vec![failing(); 4];
    script.extend(vec![refusing(); 20]);
    script.extend(vec![failing(); 4]);
    script.push(Reply::Vectors);
    let service = Service::start(script).await;
    let embedder = service.embedder_with(Credential::Key(KEY.into()), |settings| settings.attempts = 1);
    for _ in 0..28 {
        let error = embed(&embedder).await.unwrap_err();
        assert!(matches!(error, EmbeddingError::Failing { .. } | EmbeddingError::Refused { .. }), "{error:?}");
    }
    is_right(embed(&embedder).await);
}
