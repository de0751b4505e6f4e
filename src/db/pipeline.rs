//! Messages of a transaction that goes out in one go and is answered in one go: PostgreSQL's extended query protocol,
//! pipelined (manual, 54.2.4). The driver ends each statement with a Sync of its own, for which the server stops to
//! answer, and asks for binary values alone; here one Sync ends all, after an error the server skips to it, and a
//! statement has the types of its columns and the text of their values in one answer. Knows messages, no callers and
//! no SQL.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::IsNull;
use postgres_protocol::message::backend::{DataRowBody, Header, Message, RowDescriptionBody};
use postgres_protocol::message::frontend::{self, BindError};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio_postgres::types::{self, FromSql, ToSql, Type, WrongType};

use super::error::{ErrorResponse, Fault};
use super::stream::Borrowed;

/// Room for what is read at once, in bytes.
const READ: usize = 8 * 1024;

/// What the server says of a session with no transaction.
const IDLE: u8 = b'I';

/// How a statement's values come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Binary,
}

/// A value for a parameter of a statement.
pub(super) type Bound<'a> = (&'a (dyn ToSql + Sync), Type);

/// Messages on their way to the server.
#[derive(Default)]
pub(super) struct Pipeline {
    messages: BytesMut,
    syncs: usize,
}

/// Part of an answer.
pub(super) enum Reply {
    /// The columns of the rows that follow.
    Described(RowDescriptionBody),
    Row(DataRowBody),
    /// A statement has ended.
    Complete,
    /// All that goes before a Sync has ended, well or not.
    Ready,
}

/// What was asked, and the answer as far as it was read. To be ended, or its connection is lost.
pub(super) struct Conversation {
    stream: Borrowed,
    unsent: BytesMut,
    unread: BytesMut,
    /// How many Syncs are not answered.
    syncs: usize,
    status: u8,
}

/// A row of binary values.
pub(super) struct Row {
    types: Arc<[Type]>,
    values: DataRowBody,
}

/// The server left a transaction open that should have ended.
#[derive(Debug, thiserror::Error)]
#[error("the transaction did not end")]
struct StillOpen;

impl Pipeline {
    /// A statement whose rows nobody reads.
    pub(super) fn command(&mut self, sql: &str, parameters: &[Bound<'_>]) -> Result<(), Fault> {
        self.bind(sql, parameters, Format::Binary)?;
        frontend::execute("", 0, &mut self.messages).map_err(Fault::value)
    }

    /// A statement whose columns are described before its rows.
    pub(super) fn query(&mut self, sql: &str, parameters: &[Bound<'_>], results: Format) -> Result<(), Fault> {
        self.bind(sql, parameters, results)?;
        frontend::describe(b'P', "", &mut self.messages).map_err(Fault::value)?;
        frontend::execute("", 0, &mut self.messages).map_err(Fault::value)
    }

    /// Parses a statement and binds it, both without a name.
    fn bind(&mut self, sql: &str, parameters: &[Bound<'_>], results: Format) -> Result<(), Fault> {
        let messages = &mut self.messages;
        frontend::parse("", sql, parameters.iter().map(|(_, of)| of.oid()), messages).map_err(Fault::value)?;
        frontend::bind(
            "",
            "",
            parameters.iter().map(|(value, of)| value.encode_format(of) as i16),
            parameters,
            |(value, of), messages| {
                Ok(match value.to_sql_checked(of, messages)? {
                    types::IsNull::Yes => IsNull::Yes,
                    types::IsNull::No => IsNull::No,
                })
            },
            [i16::from(results == Format::Binary)],
            messages,
        )
        .map_err(|error| match error {
            BindError::Conversion(error) => Fault::Value(error),
            BindError::Serialization(error) => Fault::value(error),
        })
    }

    /// Has the server answer what it has by now, and go on.
    pub(super) fn flush(&mut self) {
        frontend::flush(&mut self.messages);
    }

    /// After an error the server goes on from here.
    pub(super) fn sync(&mut self) {
        frontend::sync(&mut self.messages);
        self.syncs += 1;
    }

    /// Statements without parameters, and a Sync.
    pub(super) fn simple_query(&mut self, sql: &str) -> Result<(), Fault> {
        frontend::query(sql, &mut self.messages).map_err(Fault::value)?;
        self.syncs += 1;
        Ok(())
    }
}

impl Conversation {
    /// Begins to send when the first reply is waited for.
    pub(super) fn begin(stream: Borrowed, asked: Pipeline) -> Self {
        let Pipeline { messages, syncs } = asked;
        Self { stream, unsent: messages, unread: BytesMut::with_capacity(READ), syncs, status: 0 }
    }

    /// The next part of the answer. An error that the server answers with is one part too: what comes after is read on.
    pub(super) async fn reply(&mut self) -> Result<Reply, Fault> {
        loop {
            return Ok(match self.message().await? {
                Message::RowDescription(columns) => Reply::Described(columns),
                Message::DataRow(row) => Reply::Row(row),
                Message::CommandComplete(_) => Reply::Complete,
                Message::ReadyForQuery(ready) => {
                    self.syncs = self.syncs.saturating_sub(1);
                    self.status = ready.status();
                    Reply::Ready
                }
                Message::ErrorResponse(error) => return Err(ErrorResponse::read(&error)?.into()),
                Message::ParseComplete
                | Message::BindComplete
                | Message::NoData
                | Message::NoticeResponse(_)
                | Message::NotificationResponse(_)
                | Message::ParameterStatus(_) => continue,
                _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "a message that was not asked for").into()),
            });
        }
    }

    /// Reads on to the end of the answer, gives the stream back, and says what went wrong on the way, the first of it.
    pub(super) async fn end(mut self) -> Result<(), Fault> {
        let mut refused = None;
        while self.syncs > 0 {
            match self.reply().await {
                Ok(_) => {}
                Err(error @ Fault::Refused(_)) => refused = refused.or(Some(error)),
                Err(lost) => return Err(lost),
            }
        }
        if self.status != IDLE {
            return Err(refused.unwrap_or_else(|| io::Error::other(StillOpen).into()));
        }
        self.stream.end();
        refused.map_or(Ok(()), Err)
    }

    async fn message(&mut self) -> io::Result<Message> {
        loop {
            // The length comes first; room is made for what is here, not for what is said to come.
            if let Some(header) = Header::parse(&self.unread)?
                && usize::try_from(header.len()).is_ok_and(|length| length < self.unread.len())
                && let Some(message) = Message::parse(&mut self.unread)?
            {
                return Ok(message);
            }
            self.unread.reserve(READ);
            if poll_fn(|cx| self.poll_exchange(cx)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends and reads at once: a server whose answer is not read does not read on either.
    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        pin!(self.stream.read_buf(&mut self.unread)).poll(cx)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unsent.has_remaining() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.unsent))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(sent);
            if !self.unsent.has_remaining() {
                self.unsent = BytesMut::new();
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

impl Row {
    pub(super) fn new(types: Arc<[Type]>, values: DataRowBody) -> Self {
        Self { types, values }
    }

    /// The value of a column, counted from 0.
    pub(super) fn get<'a, T: FromSql<'a>>(&'a self, n: usize) -> Result<T, Fault> {
        let of = self.types.get(n).ok_or_else(|| Fault::value("there is no such column"))?;
        if !T::accepts(of) {
            return Err(Fault::value(WrongType::new::<T>(of.clone())));
        }
        let value = self.values.ranges().nth(n)?.flatten().and_then(|range| self.values.buffer().get(range));
        T::from_sql_nullable(of, value).map_err(Fault::Value)
    }
}

/// The types of columns; those that PostgreSQL does not ship have no value that could be read.
pub(super) fn types_of(columns: &RowDescriptionBody) -> io::Result<Arc<[Type]>> {
    columns
        .fields()
        .map(|column| Ok(Type::from_oid(column.type_oid()).unwrap_or(Type::UNKNOWN)))
        .collect::<Vec<_>>()
        .map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::stream::Stream;
    use crate::db::stream::tests::pair;
    use tokio::io::AsyncWriteExt;

    /// A message of the server's.
    fn said(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag], length.to_be_bytes().as_slice(), body].concat()
    }

    fn asked() -> Pipeline {
        let mut pipeline = Pipeline::default();
        pipeline.query("select $1", &[(&7_i32, Type::INT4)], Format::Binary).unwrap();
        pipeline.sync();
        pipeline.simple_query("rollback").unwrap();
        pipeline
    }

    /// An `int4` column, a row of it, and the end of the statement.
    fn seven() -> Vec<u8> {
        let column = [b"\0\x01n\0".as_slice(), &[0; 6], &23_u32.to_be_bytes(), &[0, 4, 0xff, 0xff, 0xff, 0xff, 0, 1]];
        let row = [b"\0\x01".as_slice(), &4_u32.to_be_bytes(), &7_u32.to_be_bytes()];
        let described = [said(b'1', b""), said(b'2', b""), said(b'T', &column.concat())];
        [described.concat(), said(b'D', &row.concat()), said(b'C', b"SELECT 1\0")].concat()
    }

    fn refused(code: &str) -> Vec<u8> {
        said(b'E', format!("SFEHLER\0VERROR\0C{code}\0Mno\0P12\0\0").as_bytes())
    }

    #[tokio::test]
    async fn an_answer_is_read_however_it_comes() {
        let (stream, mut server) = pair(64 * 1024);
        let mut conversation = Conversation::begin(stream.lend(), asked());
        let answer =
            [seven(), said(b'Z', b"T"), said(b'N', b"\0"), said(b'C', b"ROLLBACK\0"), said(b'Z', b"I")].concat();
        let sending = tokio::spawn(async move {
            for byte in answer {
                server.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            server
        });
        let Reply::Described(columns) = conversation.reply().await.unwrap() else { panic!("columns first") };
        let types = types_of(&columns).unwrap();
        let Reply::Row(values) = conversation.reply().await.unwrap() else { panic!("then a row") };
        let row = Row::new(types, values);
        assert_eq!(row.get::<i32>(0).unwrap(), 7);
        assert!(matches!(row.get::<String>(0), Err(Fault::Value(_))));
        assert!(matches!(row.get::<i32>(1), Err(Fault::Value(_))));
        conversation.end().await.unwrap();
        assert!(!stream.is_broken());
        drop(sending.await.unwrap());
    }

    #[tokio::test]
    async fn an_error_is_part_of_an_answer_that_is_read_to_its_end() {
        let (stream, mut server) = pair(64 * 1024);
        let mut conversation = Conversation::begin(stream.lend(), asked());
        let answer = [refused("42601"), said(b'Z', b"E"), refused("26000"), said(b'Z', b"I")].concat();
        server.write_all(&answer).await.unwrap();
        let code = |error: &Fault| error.code().map(|code| code.code().to_owned());
        let error = conversation.reply().await.err().unwrap();
        assert_eq!((code(&error), error.to_string()), (Some("42601".into()), "ERROR: no".into()));
        assert_eq!(code(&conversation.end().await.unwrap_err()), Some("26000".into()));
        assert!(!stream.is_broken());
    }

    /// Left open by the server, left in the middle by the caller, cut by either, or no answer at all.
    #[tokio::test]
    async fn a_stream_whose_answer_has_no_good_end_is_not_used_again() {
        for answer in [
            [seven(), said(b'Z', b"T"), said(b'Z', b"T")].concat(),
            [seven(), said(b'Z', b"T")].concat(),
            seven(),
            seven()[..30].to_vec(),
            said(b'W', b"\0\0\0"),
            vec![b'D', 0, 0, 0, 1],
            // A length of two gigabytes, for which no room is made.
            vec![b'D', 0x7f, 0xff, 0xff, 0xff, 0],
        ] {
            let (stream, mut server) = pair(64 * 1024);
            let conversation = Conversation::begin(stream.lend(), asked());
            server.write_all(&answer).await.unwrap();
            server.shutdown().await.unwrap();
            assert!(matches!(conversation.end().await, Err(Fault::Broken(_))));
            assert!(stream.is_broken());
        }
        let (stream, _server): (Stream, _) = pair(64);
        drop(Conversation::begin(stream.lend(), asked()));
        assert!(stream.is_broken());
    }

    /// The server answers before it has read all, and nothing more fits between the two.
    #[tokio::test]
    async fn what_is_sent_does_not_wait_for_what_is_read() {
        let (stream, mut server) = pair(16);
        let mut pipeline = Pipeline::default();
        pipeline.simple_query(&" ".repeat(10_000)).unwrap();
        let conversation = Conversation::begin(stream.lend(), pipeline);
        let serving = tokio::spawn(async move {
            let notices = said(b'N', b"\0").repeat(1_000);
            server.write_all(&notices).await.unwrap();
            let mut question = vec![0; 10_006];
            server.read_exact(&mut question).await.unwrap();
            server.write_all(&said(b'Z', b"I")).await.unwrap();
        });
        conversation.end().await.unwrap();
        serving.await.unwrap();
    }
}
