//! Counts tokens as the models of GPT-4o's generation and later cut them (o200k_base): one JSON string a line comes in,
//! one number a line goes out.

use std::error::Error;
use std::io::stdin;

fn main() -> Result<(), Box<dyn Error>> {
    let tokens = tiktoken_rs::o200k_base()?;
    for line in stdin().lines() {
        let text: String = serde_json::from_str(&line?)?;
        println!("{}", tokens.encode_ordinary(&text).len());
    }
    Ok(())
}
