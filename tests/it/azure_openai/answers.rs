//! What comes back. An answer with vectors is read whole, up to a length, and checked before it is believed: there is
//! one finite vector of the right dimensions for each text, in the order of the texts. A refusal is final and keeps the
//! words of the service, as far as a log can bear them.

use std::time::Duration;

use rowgate::embedding::{Credential, Embedded, Embedder, EmbeddingError};
use serde_json::{Value, json};

use super::{KEY, Reply, Service, embed, refusing, vector};

fn shape(outcome: Result<Embedded, EmbeddingError>) -> &'static str {
    let Err(EmbeddingError::Shape(what)) = outcome else { panic!("{outcome:?}") };
    what
}

#[tokio::test]
async fn an_answer_longer_than_a_small_buffer_comes_whole() {
    let service = Service::start([Reply::Vectors]).await;
    let texts: Vec<String> = (0..256).map(|n| "x".repeat(n + 1)).collect();
    let embedded = service.embedder().embed(&texts).await.unwrap();
    assert_eq!(embedded.vectors, texts.iter().map(|text| vector(text)).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_answer_is_checked() {
    for (change, what) in [
        (
            (|all| all["data"].as_array_mut().unwrap().truncate(3)) as fn(&mut Value),
            "it has not one vector for each text",
        ),
        (|all| all["data"] = json!([]), "it has not one vector for each text"),
        (
            |all| {
                let first = all["data"][0].clone();
                all["data"].as_array_mut().unwrap().push(first);
            },
            "it has not one vector for each text",
        ),
        // Two vectors for one text.
        (|all| all["data"][0]["index"] = all["data"][1]["index"].clone(), "it has not one vector for each text"),
        (|all| all["data"][0]["index"] = json!(4), "it has not one vector for each text"),
        (|all| all["data"][0]["index"] = json!(-1), "it is not the JSON of embeddings"),
        (|all| all["data"][2]["embedding"] = json!([1.0, 2.0]), "a vector has other dimensions"),
        (|all| all["data"][2]["embedding"] = json!([1.0, 2.0, 3.0, 4.0]), "a vector has other dimensions"),
        (|all| all["data"][2]["embedding"] = json!([1.0, 2.0, null]), "it is not the JSON of embeddings"),
        (|all| all["data"][2]["embedding"] = json!("AACAPwAAAEA="), "it is not the JSON of embeddings"),
        (|all| all["data"][2]["embedding"] = json!([1.0, 2.0, -1e300]), "it is not the JSON of embeddings"),
        (|all| all["usage"] = json!({}), "it is not the JSON of embeddings"),
        (
            |all| *all = json!({"error": {"code": "x", "message": "with status 200"}}),
            "it is not the JSON of embeddings",
        ),
    ] {
        let service = Service::start([Reply::Changed(change)]).await;
        assert_eq!(shape(embed(&service.embedder()).await), what);
        assert_eq!(service.requests(), 1);
    }
    for body in
        [r#"{"object":"list","data":[{"index":0,"embedd"#, r#"{"data":[{"index":0,"embedding":[NaN,1,2]}]}"#, ""]
    {
        let service = Service::start([Reply::Says(200, vec![], body.into())]).await;
        assert_eq!(shape(embed(&service.embedder()).await), "it is not the JSON of embeddings");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    let service = Service::start([Reply::Floods]).await;
    let embedder = service.embedder_with(Credential::Key(KEY.into()), |settings| {
        settings.attempt_timeout = Duration::from_secs(30);
        settings.deadline = Duration::from_secs(30);
    });
    assert_eq!(shape(embed(&embedder).await), "it is too long");
}

#[tokio::test]
async fn a_refusal_is_final_and_in_the_words_of_the_service() {
    let service = Service::start([refusing()]).await;
    let error = embed(&service.embedder()).await.unwrap_err();
    let EmbeddingError::Refused { status: 400, code, message } = &error else { panic!("{error:?}") };
    assert_eq!(code, "content_filter");
    assert!(message.starts_with("The response was filtered due to the prompt"), "{message}");
    assert_eq!(service.requests(), 1);

    // No JSON, no words; too many of them; words that would start a line of their own in a log.
    let long =
        json!({"error": {"code": null, "message": format!("one\ntwo\u{1b}[31m{}", "ß".repeat(5000))}}).to_string();
    let longer = json!({"error": {"message": "x".repeat(1 << 20)}}).to_string();
    for (status, body, start, length) in
        [(404, "Resource not found", "", 0), (413, &longer, "", 0), (422, &long, "one two [31mßß", 300)]
    {
        let service = Service::start([Reply::Says(status, vec![], body.into())]).await;
        let error = embed(&service.embedder()).await.unwrap_err();
        let EmbeddingError::Refused { status: got, code, message } = error else { panic!("{error:?}") };
        assert_eq!((got, code.as_str(), message.chars().count()), (status, "", length));
        assert!(message.starts_with(start), "{message}");
        assert_eq!(service.requests(), 1);
    }
}
