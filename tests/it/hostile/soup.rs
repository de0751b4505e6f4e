//! The lexical check reads a text as PostgreSQL does: quotes, comments and calls thrown together by chance, and never a
//! call that it let pass. PostgreSQL has the last word on what is a call: the function that is called says so.

use rowgate::db::{DbError, SqlMistake};
use rowgate::domain::RowLimit;

use crate::support::{SEATTLE, TestDatabase, caller};

const MARK: &str = "
create function public.hostile_mark(n int default 1) returns text language plpgsql volatile as $$
begin raise exception 'called' using errcode = 'HM001'; end $$;
grant execute on function public.hostile_mark to public;
grant usage on schema public to public;";

/// What is thrown together. Calls stand more than once, so that they come often.
const PIECES: &[&str] = &[
    "'",
    "'",
    "'",
    "''",
    "E'",
    "e'",
    "U&'",
    "N'",
    "B'",
    "\\",
    "\\'",
    "\n",
    "\r",
    "\n",
    " ",
    "-- ",
    "--'",
    "/*",
    "*/",
    "/**/",
    "$$",
    "$a$",
    "$a",
    "a$",
    "\"",
    "\"\"",
    "U&\"",
    "uescape '!'",
    ",",
    ", ",
    "||",
    " || ",
    "1",
    "a",
    "'a'",
    "E'a'",
    "\n'b\\'",
    " -- '",
    "(",
    ")",
    "[1]",
    ".",
    "::text",
    " as ",
    "treat(",
    "cast(",
    "array[1]",
    "(1)",
    "+",
    "*",
    "\u{b}",
    "\u{a0}",
    "\u{feff}",
    "é",
    "public.hostile_mark()",
    "public.hostile_mark()",
    "public.hostile_mark(1)",
    "public.hostile_mark",
    "hostile_mark",
    ", public.hostile_mark(), ",
    " || public.hostile_mark() || ",
    "\"public\".\"hostile_mark\"()",
    "(1).hostile_mark",
];

/// Texts that are tried: more with ROWGATE_TEST_SOUPS.
const SOUPS: u64 = 15_000;

/// Numbers by chance, the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

#[tokio::test]
async fn no_call_hides_among_quotes_and_comments() {
    let database = TestDatabase::create().await;
    database.superuser().await.batch_execute(MARK).await.unwrap();
    let db = database.open();
    let seattle = caller(SEATTLE);
    let soups = std::env::var("ROWGATE_TEST_SOUPS").map_or(SOUPS, |count| count.parse().unwrap());
    let (mut chance, mut ran, mut asked) = (Chance(20_261_123), 0, 0);
    for _ in 0..soups {
        let length = 2 + chance.below(9);
        let soup: String = (0..length).map(|_| PIECES[chance.below(PIECES.len())]).collect();
        let sql = format!("select {soup}");
        match db.query(&seattle, &sql, RowLimit::DEFAULT).await {
            Err(DbError::Refused(_)) => {}
            Err(DbError::Statement(mistake)) => {
                let SqlMistake { sqlstate, .. } = *mistake;
                assert_ne!(sqlstate, "HM001", "called by {sql:?}");
                asked += 1;
            }
            Ok(_) => ran += 1,
            Err(other) => panic!("{sql:?}: {other:?}"),
        }
    }
    println!("{soups} texts, {} let pass, {ran} of them statements", asked + ran);
    assert!(ran > 500 || soups < SOUPS, "{ran}");
}
