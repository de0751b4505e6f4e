//! Reading an answer without believing it: it is right, or one of our sentences with its status, or wrong.

use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::tally::Outcome;

/// Sentences that come with 503 and a time to try again.
const LATER: [&str; 4] = [
    "The database can not be reached right now",
    "The server is busy",
    "You have too many calls at once",
    "The server can not get at its secrets right now",
];

/// Sentences that come as an answer.
const ENDED: [&str; 2] = ["The statement ran for too long", "The call was stopped after"];

/// PostgreSQL's, of the caller's own statement, where there is little room for temporary files.
const NO_ROOM: &str = "temporary file size exceeds";

/// What a request came to, before it is known what it should have been.
pub(super) enum Answer {
    /// The structured content of a call that worked.
    Content(Value),
    /// The sentence of a call that was refused for what it asked.
    Refusal(String),
    /// Decided already.
    Decided(Outcome),
}

/// Sends a request and reads what comes.
pub(super) async fn judge(request: RequestBuilder) -> Answer {
    let read = async {
        let response = request.send().await?;
        let (status, retry_after) = (response.status(), response.headers().get("retry-after").cloned());
        Ok::<_, reqwest::Error>((status, retry_after, response.text().await?))
    };
    let (status, retry_after, body) = match read.await {
        Ok(read) => read,
        Err(error) if error.is_timeout() => return wrong("no answer: it hangs"),
        Err(_) => return Answer::Decided(Outcome::NoHandler),
    };
    let Ok(body) = serde_json::from_str::<Value>(&body) else { return wrong(&format!("{status}, no JSON: {body}")) };
    let result = &body["result"];
    let text = result["content"][0]["text"].as_str();
    let (Some(text), true) = (text, result.is_object()) else { return wrong(&format!("{status}: {body}")) };
    let is_error = result["isError"] == json!(true);
    let seconds = retry_after.and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    let of = |sentences: &[&'static str]| sentences.iter().find(|sentence| text.starts_with(**sentence)).copied();
    match (status, is_error) {
        (StatusCode::SERVICE_UNAVAILABLE, true) => match (of(&LATER), seconds) {
            (Some(sentence), Some(1..)) => Answer::Decided(Outcome::Error(sentence.to_owned())),
            _ => wrong(&format!("503 without a sentence or a time: {text}")),
        },
        (StatusCode::OK, true) => match of(&ENDED) {
            Some(sentence) => Answer::Decided(Outcome::Error(sentence.to_owned())),
            None => Answer::Refusal(text.to_owned()),
        },
        (StatusCode::OK, false) => Answer::Content(result["structuredContent"].clone()),
        _ => wrong(&format!("{status}: {body}")),
    }
}

fn wrong(what: &str) -> Answer {
    Answer::Decided(Outcome::Wrong(what.chars().take(600).collect()))
}

impl Answer {
    fn content(self, judge: impl FnOnce(&Value) -> Outcome) -> Outcome {
        match self {
            Self::Content(content) => judge(&content),
            Self::Refusal(text) if text.starts_with(NO_ROOM) => Outcome::Error(NO_ROOM.to_owned()),
            Self::Refusal(text) => Outcome::Wrong(format!("refused: {text}")),
            Self::Decided(outcome) => outcome,
        }
    }

    pub(super) fn passes(self, check: impl FnOnce(&Value) -> bool) -> Outcome {
        self.content(|content| match check(content) {
            true => Outcome::Right,
            false => Outcome::Wrong(content.to_string().chars().take(600).collect()),
        })
    }

    /// Exactly these rows, and all of them.
    pub(super) fn has_rows(self, expected: &Value) -> Outcome {
        self.passes(|content| content["rows"] == *expected)
    }

    /// Rows of a search, each with a code and the name that belongs to it.
    pub(super) fn found<'a>(self, name_of: impl Fn(&str) -> Option<&'a str>) -> Outcome {
        self.content(|content| {
            let at = |name: &str| content["columns"].as_array()?.iter().position(|column| column["name"] == name);
            let (Some(code), Some(name)) = (at("sku"), at("product_name")) else {
                return Outcome::Wrong(content.to_string().chars().take(600).collect());
            };
            let rows = content["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
            let foreign = rows.iter().find(|row| row[code].as_str().and_then(&name_of) != row[name].as_str());
            match (foreign, content["by"].as_str()) {
                (None, Some("meaning")) => Outcome::Right,
                (None, Some("words")) => Outcome::ByWords,
                _ => Outcome::Wrong(format!("no such product: {foreign:?}")),
            }
        })
    }

    /// More than an answer may have: some of it, and that it is not all.
    pub(super) fn cut(self) -> Outcome {
        self.passes(|content| content["truncated"] == json!(true))
    }

    /// Refused for what it asked.
    pub(super) fn refused(self, sentence: &str) -> Outcome {
        match self {
            // Whose fault it is has to be told right.
            Self::Refusal(text) if text.starts_with("Something went wrong on the server") => Outcome::Wrong(text),
            Self::Refusal(text) if text.starts_with(sentence) => Outcome::Right,
            Self::Refusal(text) => Outcome::Wrong(text),
            Self::Content(content) => Outcome::Wrong(format!("let through: {content}")),
            Self::Decided(outcome) => outcome,
        }
    }
}
