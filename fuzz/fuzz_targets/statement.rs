//! The lexical check of a caller's statement. What it accepts it accepts again, unchanged, and holds no semicolon's
//! second statement; what it refuses it refuses at a place inside of the text.
#![no_main]

use std::collections::HashSet;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rowgate::db::Statement;

static VOLATILE: LazyLock<HashSet<String>> =
    LazyLock::new(|| ["pg_sleep", "set_config", "random", "nextval", "we\"ird", ""].map(str::to_owned).into());

fuzz_target!(|sql: &str| {
    match Statement::check(sql, &VOLATILE) {
        Ok(statement) => {
            assert!(sql.starts_with(statement.as_str()));
            assert_eq!(Statement::check(statement.as_str(), &VOLATILE), Ok(statement));
        }
        Err(error) => {
            assert!(error.position().is_none_or(|at| at < sql.chars().count()), "{error:?}");
            assert!(!error.to_string().is_empty());
        }
    }
});
