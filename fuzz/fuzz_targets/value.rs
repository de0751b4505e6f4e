//! PostgreSQL's text of a value as JSON. It is always JSON, and a number is the very number that the text has. The first
//! byte chooses the type.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rowgate::db::fuzzing::write;
use serde_json::Value;

fuzz_target!(|input: (u8, &str)| {
    let (of, text) = input;
    let mut written = String::new();
    write(of, text, &mut written);
    let value: Value = serde_json::from_str(&written).unwrap_or_else(|error| panic!("{written}: {error}"));
    let kind = usize::from(of >> 1) % 6;
    match &value {
        // JSON, with or without space around it; one that could not be kept exactly is a text.
        Value::Number(_) | Value::Array(_) | Value::Object(_) if kind == 4 && of & 1 == 0 => {
            assert_eq!(numbers(&written), numbers(text), "{text} became {written}");
        }
        Value::Number(number) if kind == 2 => assert_eq!(number.as_f64(), text.parse().ok()),
        Value::Number(number) => assert_eq!(decimal(&number.to_string()), decimal(text), "{text} became {number}"),
        Value::String(same) if of & 1 == 0 && kind != 4 => assert_eq!(same, text),
        _ => {}
    }
});

/// The numbers outside of strings, sorted: the keys of objects change their order.
fn numbers(json: &str) -> Vec<Option<Decimal>> {
    let (mut in_string, mut escaped, mut word) = (false, false, String::new());
    let mut numbers = Vec::new();
    for c in json.chars().chain([' ']) {
        if !in_string && (c.is_ascii_digit() || ".-+eE".contains(c)) {
            word.push(c);
            continue;
        }
        // `true` and `false` end in an e.
        if word.contains(|c: char| c.is_ascii_digit()) {
            numbers.push(decimal(&word));
        }
        word.clear();
        if in_string {
            (in_string, escaped) = (escaped || c != '"', !escaped && c == '\\');
        } else {
            in_string = c == '"';
        }
    }
    numbers.sort();
    numbers
}

/// Sign, digits without zeros around them, and the power of ten of the last digit.
type Decimal = (bool, String, i64);

fn decimal(text: &str) -> Option<Decimal> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some((false, String::new(), 0));
    }
    let kept = digits.trim_end_matches('0');
    let zeros = (digits.len() - kept.len()) as i64;
    Some((negative, kept.to_owned(), exponent.parse::<i64>().ok()? - fraction.len() as i64 + zeros))
}
