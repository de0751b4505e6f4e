//! What an error tells: that nobody is there, or which endpoint and which settings can not work, and never a secret,
//! whatever the service answers.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rowgate::embedding::{AzureOpenAi, AzureOpenAiSettings, Credential, EmbeddingError, TokenSource};
use tokio::net::TcpSocket;

use super::{KEY, Reply, Service, Tokens, embed, settings};

/// An error as a log would have it, with all causes, in words and in its structure.
fn all_of(error: &EmbeddingError) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(" {error} {error:?}");
        source = error.source();
    }
    text
}

/// An address of our own at which nothing listens.
fn nobody() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn nobody_there() {
    let (_socket, address) = nobody();
    let embedder = AzureOpenAi::new(settings(&format!("http://{address}")), Credential::Key(KEY.into())).unwrap();
    let error = embed(&embedder).await.unwrap_err();
    assert!(matches!(error, EmbeddingError::Unreachable(_)), "{error:?}");
    assert!(all_of(&error).contains("refused"), "{}", all_of(&error));
}

#[tokio::test]
async fn endpoints_and_settings_that_can_not_work() {
    let key = || Credential::Key(KEY.into());
    for endpoint in [
        "",
        "resource.openai.azure.com",
        "http://resource.openai.azure.com",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://10.0.0.1",
        "http://[::2]",
        "http://0.0.0.0",
        "ftp://127.0.0.1",
        "https://user@resource.openai.azure.com",
        "https://user:5ecret0f4ll5ecrets@resource.openai.azure.com",
        "https://resource.openai.azure.com/?api-version=2024-02-01",
        "https://resource.openai.azure.com/#there",
    ] {
        let error = AzureOpenAi::new(settings(endpoint), key()).unwrap_err();
        assert!(matches!(error, EmbeddingError::Settings(_)), "{endpoint}");
        assert!(!all_of(&error).contains(KEY));
    }
    for endpoint in
        ["https://resource.openai.azure.com", "https://gateway.example.com/ai/", "http://localhost:1", "http://[::1]:1"]
    {
        AzureOpenAi::new(settings(endpoint), key()).unwrap();
    }
    for (attempt_timeout, deadline) in
        [(0, 1), (1, 0), (3601, 1), (1, 3601)].map(|(a, d)| (Duration::from_secs(a), Duration::from_secs(d)))
    {
        let settings = AzureOpenAiSettings { attempt_timeout, deadline, ..settings("https://a.openai.azure.com") };
        assert!(matches!(AzureOpenAi::new(settings, key()), Err(EmbeddingError::Settings(_))));
    }
    let key = Credential::Key(format!("{KEY}\n"));
    let error = AzureOpenAi::new(settings("https://a.openai.azure.com"), key).unwrap_err();
    assert!(matches!(error, EmbeddingError::Credential(_)));
    assert!(!all_of(&error).contains(KEY));
}

#[tokio::test]
async fn no_secret_shows() {
    let (_socket, address) = nobody();
    for credential in [Credential::Key(KEY.into()), Credential::Token(Arc::<Tokens>::default())] {
        for reply in [
            Reply::Echoes(400),
            Reply::Echoes(401),
            Reply::Echoes(429),
            Reply::Echoes(500),
            Reply::Breaks,
            Reply::Hangs,
            Reply::Says(200, vec![], KEY.into()),
        ] {
            let service = Service::start([reply]).await;
            let embedder = service.embedder_with(credential.clone(), |settings| {
                settings.attempts = 1;
                settings.attempt_timeout = Duration::from_millis(500);
            });
            let error = embed(&embedder).await.unwrap_err();
            assert!(!all_of(&error).contains(KEY), "{error:?}");
            assert!(!format!("{embedder:?} {embedder:#?}").contains(KEY));
        }
        let embedder = AzureOpenAi::new(settings(&format!("http://{address}")), credential.clone()).unwrap();
        assert!(!all_of(&embed(&embedder).await.unwrap_err()).contains(KEY));
        assert!(!format!("{credential:?}").contains(KEY));
    }
    // A token that can not be a header.
    struct Lines;
    impl TokenSource for Lines {
        fn token(&self, _: bool) -> BoxFuture<'_, Result<String, Box<dyn StdError + Send + Sync>>> {
            Box::pin(async { Ok(format!("{KEY}\r\nx: y")) })
        }
    }
    let service = Service::start([Reply::Vectors]).await;
    let error = embed(&service.embedder_with(Credential::Token(Arc::new(Lines)), |_| ())).await.unwrap_err();
    assert!(matches!(error, EmbeddingError::Credential(_)));
    assert!(!all_of(&error).contains(KEY));
    assert_eq!(service.requests(), 0);
}
