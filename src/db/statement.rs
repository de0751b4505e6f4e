//! A caller's statement, checked for what a person would want to be told before it runs: one statement, one that
//! reads, no function with an effect. This is courtesy; what keeps tenants apart is in the database.

use std::collections::HashSet;

use squawk_lexer::{LiteralKind, Token, TokenKind};

/// Longest statement, in bytes.
const LONGEST: usize = 100_000;

/// Volatile functions that only answer differently each time.
const HARMLESS: &[&str] = &[
    "array_sample",
    "array_shuffle",
    "clock_timestamp",
    "gen_random_uuid",
    "random",
    "random_normal",
    "timeofday",
    "uuidv4",
    "uuidv7",
];

/// Functions that are no volatile ones, and use up an id of a transaction all the same.
const NOT_HARMLESS: &[&str] = &["pg_current_xact_id", "txid_current"];

/// One statement that reads, without its closing semicolon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement(String);

/// Why a text is no statement that may run. Positions are in characters from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Only white space or comments.
    #[error("The statement is empty.")]
    Empty,
    /// Too long.
    #[error("The statement has {0} bytes; {LONGEST} is the most.")]
    TooLong(usize),
    /// A zero byte.
    #[error("The statement holds a zero byte.")]
    ZeroByte,
    /// Something after a semicolon.
    #[error("Only one statement can run at a time: nothing may follow the semicolon.")]
    Several {
        /// Where the second one starts.
        at: usize,
    },
    /// Not a query.
    #[error(
        "Only queries can run here, and data can not be changed: start with SELECT, WITH, VALUES or TABLE, not {word}."
    )]
    NotAQuery {
        /// What it starts with.
        word: String,
        /// Where.
        at: usize,
    },
    /// `$1`.
    #[error("There are no parameters here: write the value in place of {word}.")]
    Parameter {
        /// The parameter.
        word: String,
        /// Where.
        at: usize,
    },
    /// `U&"…"`.
    #[error("Write identifiers plainly: U&\"…\" is not accepted.")]
    UnicodeIdentifier {
        /// Where.
        at: usize,
    },
    /// `TREAT(x AS f)`, which PostgreSQL reads as a call of f.
    #[error("TREAT is not accepted: write CAST(… AS …).")]
    Treat {
        /// Where.
        at: usize,
    },
    /// `E'…'` and another string after a line break, which PostgreSQL reads as one.
    #[error("Write one string instead of several: E'…' can not go on in another line here.")]
    StringGoesOn {
        /// Where it goes on.
        at: usize,
    },
    /// A function that does more than compute.
    #[error("The function {name} can not be used here: it is volatile, so it might do more than read.")]
    Volatile {
        /// The function's name.
        name: String,
        /// Where.
        at: usize,
    },
}

impl StatementError {
    /// Where in the text, in characters from 0.
    pub fn position(&self) -> Option<usize> {
        match self {
            Self::Empty | Self::TooLong(_) | Self::ZeroByte => None,
            Self::Several { at }
            | Self::NotAQuery { at, .. }
            | Self::Parameter { at, .. }
            | Self::UnicodeIdentifier { at }
            | Self::Treat { at }
            | Self::StringGoesOn { at }
            | Self::Volatile { at, .. } => Some(*at),
        }
    }
}

/// A token that is neither white space nor a comment.
struct Word<'a> {
    kind: TokenKind,
    text: &'a str,
    /// Byte offset.
    start: usize,
}

impl Statement {
    /// Checks a text. `volatile` holds the names of the server's volatile functions.
    pub fn check(sql: &str, volatile: &HashSet<String>) -> Result<Self, StatementError> {
        if sql.len() > LONGEST {
            return Err(StatementError::TooLong(sql.len()));
        }
        if sql.contains('\0') {
            return Err(StatementError::ZeroByte);
        }
        let words = words(sql);
        let at = |word: &Word<'_>| sql.get(..word.start).unwrap_or_default().chars().count();

        let end = words.iter().position(|w| w.kind == TokenKind::Semi).unwrap_or(words.len());
        if let Some(next) = words.iter().skip(end).find(|w| w.kind != TokenKind::Semi) {
            return Err(StatementError::Several { at: at(next) });
        }
        let text = words.get(end).and_then(|semicolon| sql.get(..semicolon.start)).unwrap_or(sql);
        let words = words.get(..end).unwrap_or_default();

        let first = words.iter().find(|w| w.kind != TokenKind::OpenParen).ok_or(StatementError::Empty)?;
        if !["select", "with", "values", "table"].iter().any(|k| first.text.eq_ignore_ascii_case(k)) {
            return Err(StatementError::NotAQuery { word: first.text.chars().take(40).collect(), at: at(first) });
        }

        for (n, word) in words.iter().enumerate() {
            let followed = words.get(n + 1).is_some_and(|next| next.kind == TokenKind::OpenParen);
            let called = followed || is_attribute(words.get(..n).unwrap_or_default());
            match word.kind {
                TokenKind::PositionalParam { .. } => {
                    return Err(StatementError::Parameter { word: word.text.to_owned(), at: at(word) });
                }
                TokenKind::QuotedIdent { uescape: true, .. } => {
                    return Err(StatementError::UnicodeIdentifier { at: at(word) });
                }
                TokenKind::Ident if followed && word.text.eq_ignore_ascii_case("treat") => {
                    return Err(StatementError::Treat { at: at(word) });
                }
                // The lexer takes the second for a string without escapes, so that its end is not PostgreSQL's.
                TokenKind::Literal { kind: LiteralKind::EscStr { .. } } => {
                    if let Some(next) = words.get(n + 1).filter(|next| next.text.starts_with('\'')) {
                        return Err(StatementError::StringGoesOn { at: at(next) });
                    }
                }
                TokenKind::Ident | TokenKind::QuotedIdent { .. } if called => {
                    let name = identifier(word);
                    let harmless = HARMLESS.contains(&name.as_str());
                    if NOT_HARMLESS.contains(&name.as_str()) || (volatile.contains(&name) && !harmless) {
                        return Err(StatementError::Volatile { name, at: at(word) });
                    }
                }
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// A statement that nothing was checked of, to see what the database alone holds.
    #[doc(hidden)]
    pub fn unchecked(sql: &str) -> Self {
        Self(sql.to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Those of some tables, `schema.table`, whose names stand in a text as identifiers.
pub(super) fn mentioned(sql: &str, tables: &[String]) -> Vec<String> {
    let words = words(sql);
    let is = |word: &Word<'_>, name: &str| match word.kind {
        TokenKind::Ident => word.text.eq_ignore_ascii_case(name),
        TokenKind::QuotedIdent { .. } => identifier(word) == name,
        _ => false,
    };
    let is_there =
        |table: &&String| table.rsplit('.').next().is_some_and(|name| words.iter().any(|word| is(word, name)));
    tables.iter().filter(is_there).cloned().collect()
}

fn words(sql: &str) -> Vec<Word<'_>> {
    let mut start = 0;
    squawk_lexer::tokenize(sql)
        .map(|Token { kind, len }| {
            let word = Word { kind, text: sql.get(start..start + len as usize).unwrap_or_default(), start };
            start += len as usize;
            word
        })
        .filter(|word| {
            !matches!(
                word.kind,
                TokenKind::Whitespace | TokenKind::LineComment | TokenKind::BlockComment { .. } | TokenKind::Eof
            )
        })
        .collect()
}

/// Whether a name that comes after these words is an attribute of a value, which PostgreSQL reads as a call as well:
/// `(x).f` is `f(x)`.
fn is_attribute(before: &[Word<'_>]) -> bool {
    let [.., value, dot] = before else { return false };
    dot.kind == TokenKind::Dot && matches!(value.kind, TokenKind::CloseParen | TokenKind::CloseBracket)
}

/// The name that PostgreSQL reads: folded to lower case unless quoted.
fn identifier(word: &Word<'_>) -> String {
    match word.kind {
        TokenKind::QuotedIdent { .. } => {
            let inner = word.text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(word.text);
            inner.replace("\"\"", "\"")
        }
        _ => word.text.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str) -> Result<Statement, StatementError> {
        let volatile = ["pg_sleep", "set_config", "random", "we\"ird"].map(str::to_owned).into();
        Statement::check(sql, &volatile)
    }

    #[test]
    fn queries_pass_whatever_their_dress() {
        for sql in [
            "select 1",
            "  SELECT 1",
            "((select 1))",
            "with a as (select 1) table a",
            "values (1)",
            "table retail.stores",
            "select 'a;b', $$;$$, $x$ ; $$ $x$ -- ; pg_sleep(1)\n",
            "select random(), 'pg_sleep(1)' as pg_sleep",
            "/* a /* nested */ ; */ select pg_sleep from t",
            "select t.pg_sleep, (t).pg_slept, treat from t",
            "select E'a\\'', E'b' || 'c'",
        ] {
            assert_eq!(check(sql).map(|s| s.as_str().to_owned()), Ok(sql.to_owned()));
        }
        assert_eq!(check("select 1 ; ; -- done").map(|s| s.as_str().to_owned()), Ok("select 1 ".to_owned()));
    }

    #[test]
    fn the_rest_is_told_where_it_goes_wrong() {
        let at = |sql: &str| check(sql).unwrap_err();
        assert_eq!(at(" -- nothing\n"), StatementError::Empty);
        assert_eq!(at("(("), StatementError::Empty);
        assert_eq!(at("select 1; select 2"), StatementError::Several { at: 10 });
        assert_eq!(at("é; x").position(), Some(3));
        assert_eq!(at("drop table x"), StatementError::NotAQuery { word: "drop".into(), at: 0 });
        assert_eq!(at("select $1"), StatementError::Parameter { word: "$1".into(), at: 7 });
        assert_eq!(at("select U&\"pg\\005fsleep\"(1)"), StatementError::UnicodeIdentifier { at: 7 });
        for (sql, name) in [
            ("select pg_sleep(1)", "pg_sleep"),
            ("select PG_Sleep /* why */ (1)", "pg_sleep"),
            ("select pg_catalog.\"pg_sleep\"(1)", "pg_sleep"),
            ("select \"we\"\"ird\"()", "we\"ird"),
            ("select * from set_config('a','b',true)", "set_config"),
            ("select (30).pg_sleep", "pg_sleep"),
            ("select (a)[1] . \"pg_sleep\"", "pg_sleep"),
            ("select txid_current()", "txid_current"),
        ] {
            assert!(matches!(at(sql), StatementError::Volatile { name: n, .. } if n == name), "{sql}");
        }
        assert_eq!(at("select treat(30 as pg_sleep)"), StatementError::Treat { at: 7 });
        assert_eq!(at("select E'a'\n'b\\' || ' || pg_sleep(1) -- '"), StatementError::StringGoesOn { at: 12 });
        assert_eq!(at("select '\0'"), StatementError::ZeroByte);
        assert_eq!(at(&"x".repeat(100_001)), StatementError::TooLong(100_001));
    }

    /// Whatever comes, what is accepted is accepted again as it is, and what is refused is refused inside of the text.
    #[test]
    fn what_passes_passes_again() {
        use rand::{RngExt, SeedableRng};
        let mut random = rand::rngs::ChaCha8Rng::seed_from_u64(7);
        let parts =
            r#"select@ @;@(@)@'@"@$$@$1@$x$@--@/*@*/@E'@U&"@\@pg_sleep@"pg_sleep"@with@1@,@.@é@𝄞@x@B'@::@0x@1e@"#;
        let parts: Vec<_> = parts.split('@').chain(["\n"]).collect();
        let (mut passed, rounds) = (0, 20_000);
        for _ in 0..rounds {
            let length = random.random_range(0..12);
            let text: String = (0..length).map(|_| parts[random.random_range(0..parts.len())]).collect();
            let text = format!("select {text}");
            match check(&text) {
                Ok(statement) => {
                    passed += 1;
                    assert!(text.starts_with(statement.as_str()));
                    assert_eq!(check(statement.as_str()), Ok(statement));
                }
                Err(error) => assert!(error.position().unwrap() < text.chars().count(), "{text}: {error:?}"),
            }
        }
        assert!(passed > rounds / 10 && passed < rounds);
    }
}
