//! Errors as they are told: with all that caused them.

use std::error::Error;

/// An error and all that caused it, the cause last. What only repeats its cause is left out.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut told = error.to_string();
    let mut last = told.clone();
    let mut error = error.source();
    while let Some(cause) = error {
        let text = cause.to_string();
        if text != last {
            told = format!("{told}: {text}");
        }
        last = text;
        error = cause.source();
    }
    told
}
