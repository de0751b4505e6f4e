//! The limit of a cold start: connects as the login role, sends a file of SQL as one message, prints how many rows came.
//! Usage: bare <url> <file>

use std::error::Error;

use tokio_postgres::{NoTls, SimpleQueryMessage};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (url, file) = (arguments.next().ok_or("no url")?, arguments.next().ok_or("no file")?);
    let sql = std::fs::read_to_string(file)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(connection);
        let answer = client.simple_query(&sql).await?;
        let rows = answer.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count();
        println!("{rows} rows");
        Ok(())
    })
}
