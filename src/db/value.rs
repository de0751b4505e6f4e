//! From PostgreSQL's text of a value to JSON, exactly: a number where a reader of JSON gets the very value, else the
//! text. A value goes from one text to the other, and no tree of values is built but for JSON. Knows types, not rows;
//! reads nothing.

use serde_json::Value;
use tokio_postgres::types::{Kind, Type};

use super::exact_json::exact_json;
use super::facts::ServerFacts;

/// The largest integer whose neighbours a reader with double precision can tell from it: 2^53 - 1.
const EXACT_INTEGER: u64 = 9_007_199_254_740_991;

/// Decimal digits that double precision always keeps.
pub(super) const EXACT_DIGITS: usize = 15;

/// The name of a type that is in no facts.
pub(super) const UNKNOWN_TYPE: &str = "unknown";

/// How the text of a column's values turns into JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Boolean,
    Integer,
    Float,
    Numeric,
    Json,
    Array(Box<Encoding>),
    Text,
}

/// The name that a reader of SQL knows a type by, and how its values are encoded.
pub(super) fn encoding(oid: u32, facts: &ServerFacts) -> (String, Encoding) {
    if let Some(shipped) = Type::from_oid(oid) {
        return match shipped.kind() {
            Kind::Array(element) if *element != Type::BOX => {
                let (name, inner) = encoding(element.oid(), facts);
                (format!("{name}[]"), Encoding::Array(Box::new(inner)))
            }
            _ => (shipped.name().to_owned(), shipped_encoding(&shipped)),
        };
    }
    let Some(other) = facts.other_type(oid) else {
        return (UNKNOWN_TYPE.to_owned(), Encoding::Text);
    };
    let encoding = match (other.base, other.element, other.name.as_str()) {
        (Some(base), ..) => encoding(base, facts).1,
        (_, Some(element), _) => {
            let (name, inner) = encoding(element, facts);
            return (format!("{name}[]"), Encoding::Array(Box::new(inner)));
        }
        // pgvector writes its dense vectors as JSON arrays.
        (_, _, "vector" | "halfvec") => Encoding::Json,
        _ => Encoding::Text,
    };
    (other.name.clone(), encoding)
}

fn shipped_encoding(shipped: &Type) -> Encoding {
    match *shipped {
        Type::BOOL => Encoding::Boolean,
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => Encoding::Integer,
        Type::FLOAT4 | Type::FLOAT8 => Encoding::Float,
        Type::NUMERIC => Encoding::Numeric,
        Type::JSON | Type::JSONB => Encoding::Json,
        _ => Encoding::Text,
    }
}

impl Encoding {
    /// Writes the JSON of a value that PostgreSQL writes as `text`.
    pub(super) fn write(&self, text: &str, json: &mut String) {
        let exact = match self {
            Self::Boolean => match text {
                "t" => Some("true"),
                "f" => Some("false"),
                _ => None,
            },
            Self::Integer => integer(text),
            Self::Float => float(text),
            Self::Numeric => numeric(text),
            Self::Json => match exact_json(text) {
                Some(exact) => return json.push_str(&exact),
                None => None,
            },
            Self::Array(element) => {
                let from = json.len();
                if write_array(text, element, json).is_some() {
                    return;
                }
                json.truncate(from);
                None
            }
            Self::Text => None,
        };
        match exact {
            Some(exact) => json.push_str(exact),
            None => write_text(text, json),
        }
    }
}

/// A JSON string. Most have nothing that must be escaped.
fn write_text(text: &str, json: &mut String) {
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        json.push('"');
        json.push_str(text);
        json.push('"');
    } else {
        json.push_str(&Value::from(text).to_string());
    }
}

/// A number of JSON's grammar (RFC 8259 section 6), as far as it is looked at here.
struct Digits {
    /// Before the point, without zeros in front.
    whole: usize,
    /// After the point, which is there if there are any.
    fraction: usize,
    has_exponent: bool,
}

impl Digits {
    /// `None` if the text is no number.
    fn of(text: &str) -> Option<Self> {
        let count = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let text = text.as_bytes();
        let text = text.strip_prefix(b"-").unwrap_or(text);
        let (whole, mut rest) = text.split_at_checked(count(text))?;
        if whole.is_empty() || (whole.first() == Some(&b'0') && whole.len() > 1) {
            return None;
        }
        let mut fraction = 0;
        if let Some(after) = rest.strip_prefix(b".") {
            fraction = count(after);
            rest = after.get(fraction..).filter(|_| fraction > 0)?;
        }
        let has_exponent = !rest.is_empty();
        if has_exponent {
            let after = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E"))?;
            let after = after.strip_prefix(b"-").or_else(|| after.strip_prefix(b"+")).unwrap_or(after);
            if after.is_empty() || count(after) < after.len() {
                return None;
            }
        }
        Some(Self { whole: if whole == b"0" { 0 } else { whole.len() }, fraction, has_exponent })
    }
}

/// An integer as it is, if double precision keeps it.
fn integer(text: &str) -> Option<&str> {
    let digits = Digits::of(text)?;
    let exact = digits.whole <= EXACT_DIGITS || text.parse::<i64>().ok()?.unsigned_abs() <= EXACT_INTEGER;
    (exact && digits.fraction == 0 && !digits.has_exponent).then_some(text)
}

/// A float as it is, unless it is one that no reader can hold: `Infinity`, or a number beyond double precision.
fn float(text: &str) -> Option<&str> {
    Digits::of(text)?;
    text.parse::<f64>().is_ok_and(f64::is_finite).then_some(text)
}

/// A numeric as a JSON number, if double precision keeps it. Trailing zeros go: 12.50 is 12.5.
fn numeric(text: &str) -> Option<&str> {
    let digits = Digits::of(text)?;
    if digits.whole + digits.fraction > EXACT_DIGITS || digits.has_exponent {
        return None;
    }
    if digits.fraction == 0 {
        return Some(text);
    }
    let zeros = text.bytes().rev().take_while(|byte| *byte == b'0').count();
    let point = usize::from(zeros == digits.fraction);
    text.get(..text.len() - zeros - point)
}

/// Writes an array, if its text is of the plain kind: no explicit bounds, at most six dimensions.
fn write_array(text: &str, element: &Encoding, json: &mut String) -> Option<()> {
    let mut rest = text;
    write_level(&mut rest, element, 0, json)?;
    rest.is_empty().then_some(())
}

fn write_level(rest: &mut &str, element: &Encoding, depth: usize, json: &mut String) -> Option<()> {
    // PostgreSQL has six dimensions at most.
    if depth > 6 {
        return None;
    }
    *rest = rest.strip_prefix('{')?;
    json.push('[');
    if let Some(after) = rest.strip_prefix('}') {
        *rest = after;
        json.push(']');
        return Some(());
    }
    loop {
        if rest.starts_with('{') {
            write_level(rest, element, depth + 1, json)?;
        } else {
            write_element(rest, element, json)?;
        }
        if let Some(after) = rest.strip_prefix(',') {
            *rest = after;
            json.push(',');
        } else {
            *rest = rest.strip_prefix('}')?;
            json.push(']');
            return Some(());
        }
    }
}

fn write_element(rest: &mut &str, element: &Encoding, json: &mut String) -> Option<()> {
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find([',', '}'])?;
        let (plain, after) = rest.split_at_checked(end)?;
        *rest = after;
        if plain == "NULL" {
            json.push_str("null");
        } else {
            element.write(plain, json);
        }
        return Some(());
    };
    let mut text = String::new();
    let mut characters = quoted.char_indices();
    loop {
        match characters.next()? {
            (_, '\\') => text.push(characters.next()?.1),
            (at, '"') => {
                *rest = quoted.get(at + 1..)?;
                element.write(&text, json);
                return Some(());
            }
            (_, other) => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What a reader of the JSON gets.
    fn read(encoding: &Encoding, text: &str) -> Value {
        let mut json = "[".to_owned();
        encoding.write(text, &mut json);
        let json = json.strip_prefix('[').unwrap();
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{text} became {json}: {error}"))
    }

    #[test]
    fn numbers_are_numbers_where_that_is_exact() {
        for (text, value) in [
            ("12.50", json!(12.5)),
            ("100.00", json!(100)),
            ("-0.001", json!(-0.001)),
            ("0", json!(0)),
            ("123456789012345", json!(123_456_789_012_345_i64)),
            ("1234567890123456", json!("1234567890123456")),
            ("0.1234567890123456", json!("0.1234567890123456")),
            ("0.00085e-700", json!("0.00085e-700")),
            ("NaN", json!("NaN")),
            ("-Infinity", json!("-Infinity")),
        ] {
            assert_eq!(read(&Encoding::Numeric, text), value, "{text}");
        }
        assert_eq!(read(&Encoding::Integer, "9007199254740991"), json!(9_007_199_254_740_991_i64));
        assert_eq!(read(&Encoding::Integer, "9007199254740992"), json!("9007199254740992"));
        assert_eq!(read(&Encoding::Float, "1e+300"), json!(1e300));
        for text in ["Infinity", "-Infinity", "NaN", "1e+410"] {
            assert_eq!(read(&Encoding::Float, text), json!(text));
        }
    }

    #[test]
    fn arrays_nest_and_keep_nulls_and_quotes() {
        let texts = Encoding::Array(Box::new(Encoding::Text));
        let integers = Encoding::Array(Box::new(Encoding::Integer));
        assert_eq!(read(&integers, "{}"), json!([]));
        assert_eq!(read(&integers, "{{1,2},{3,NULL}}"), json!([[1, 2], [3, null]]));
        assert_eq!(read(&texts, r#"{a,"b,\"\\}",NULL,"NULL",""}"#), json!(["a", "b,\"\\}", null, "NULL", ""]));
        for odd in ["[0:1]={1,2}", "{1", "{1}}", "{1,}x", "{{{{{{{{1}}}}}}}}"] {
            assert_eq!(read(&integers, odd), json!(odd));
        }
    }

    #[test]
    fn every_text_is_read_as_it_was() {
        let all: String = (0..0x300).filter_map(char::from_u32).collect();
        for text in [all.as_str(), "", "\\", "\"", "a\u{0}b\u{1f}\u{7f}", "é\"ü\\"] {
            assert_eq!(read(&Encoding::Text, text), json!(text));
        }
    }

    #[test]
    fn the_longest_integers_are_texts() {
        for text in ["-9223372036854775808", "9223372036854775807", "-9007199254740992"] {
            assert_eq!(read(&Encoding::Integer, text), json!(text));
        }
        assert_eq!(read(&Encoding::Integer, "-9007199254740991"), json!(-9_007_199_254_740_991_i64));
    }

    /// Every text of up to seven of these characters: a number is the number that was written.
    #[test]
    fn short_numerics_are_what_they_say() {
        let characters = ['-', '0', '1', '5', '.'];
        let mut texts = vec![String::new()];
        for _ in 0..7 {
            texts = texts.iter().flat_map(|text| characters.map(|c| format!("{text}{c}"))).collect();
            for text in &texts {
                if let Value::Number(number) = read(&Encoding::Numeric, text) {
                    assert_eq!(number.as_f64().unwrap(), text.parse::<f64>().unwrap(), "{text}");
                    assert!(!text.trim_start_matches('-').is_empty());
                }
            }
        }
    }

    /// Arrays as PostgreSQL writes them, of every short text of what it quotes.
    #[test]
    fn texts_come_out_of_an_array_as_they_went_in() {
        let characters = ['"', '\\', ',', '{', '}', ' ', 'é', 'N'];
        let mut texts = vec![String::new()];
        for _ in 0..4 {
            texts = texts.iter().flat_map(|text| characters.map(|c| format!("{text}{c}"))).collect();
            let quoted = texts.iter().map(|text| format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\"")));
            let array = format!("{{NULL,{}}}", quoted.collect::<Vec<_>>().join(","));
            let read = read(&Encoding::Array(Box::new(Encoding::Text)), &array);
            assert!(read[0].is_null());
            assert!(read.as_array().unwrap().iter().skip(1).eq(texts.iter().map(String::as_str)));
        }
    }
}
