//! A Redis connection of our own (RESP2), so that it is known what was sent, what was answered, and what is not known.

use std::{io, time::Duration};

use redis_expiry_operator::model::Address;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

/// A command: its name and its arguments.
pub type Command = Vec<Vec<u8>>;

/// `command(["SET", "key"], [value])`: words, then bytes.
pub fn command<const N: usize>(words: [&str; N]) -> Command {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Status(String),
    Error(String),
    Integer(i64),
    Bulk(Option<Vec<u8>>),
    Array(Vec<Reply>),
}

impl Reply {
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            _ => None,
        }
    }
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Error(text) => Some(text),
            _ => None,
        }
    }
    pub fn array(&self) -> &[Reply] {
        match self {
            Self::Array(items) => items,
            _ => &[],
        }
    }
    pub fn text(&self) -> String {
        match self {
            Self::Status(text) | Self::Error(text) => text.clone(),
            Self::Bulk(Some(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Integer(value) => value.to_string(),
            other => format!("{other:?}"),
        }
    }
}

pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub async fn open(address: &Address) -> io::Result<Self> {
        let dial = TcpStream::connect((address.host.as_ref(), address.port));
        let stream = timeout(Duration::from_millis(300), dial).await??;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Whether the other side has closed it, as far as can be told without sending anything.
    pub fn is_closed(&self) -> bool {
        let mut byte = [0];
        !matches!(self.stream.get_ref().try_read(&mut byte), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends the commands in one write and reads their replies. After an error nothing is known about any of them, and
    /// the connection must be dropped.
    pub async fn exchange(&mut self, commands: &[Command], patience: Duration) -> io::Result<Vec<Reply>> {
        timeout(patience, async {
            let mut out = Vec::new();
            for command in commands {
                out.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
                for word in command {
                    out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                    out.extend_from_slice(word);
                    out.extend_from_slice(b"\r\n");
                }
            }
            self.stream.write_all(&out).await?;
            let mut replies = Vec::with_capacity(commands.len());
            for _ in commands {
                replies.push(self.reply().await?);
            }
            Ok(replies)
        })
        .await?
    }

    async fn reply(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let rest = line.get(1..).unwrap_or_default();
        let count = || rest.parse::<i64>().map_err(|_| io::Error::other(format!("not a reply: {line:?}")));
        Ok(match line.as_bytes().first() {
            Some(b'+') => Reply::Status(rest.into()),
            Some(b'-') => Reply::Error(rest.into()),
            Some(b':') => Reply::Integer(count()?),
            Some(b'$') => match usize::try_from(count()?) {
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.stream.read_exact(&mut bytes).await?;
                    bytes.truncate(length);
                    Reply::Bulk(Some(bytes))
                }
                Err(_) => Reply::Bulk(None),
            },
            Some(b'*') => {
                let mut items = Vec::new();
                for _ in 0..count()? {
                    items.push(Box::pin(self.reply()).await?);
                }
                Reply::Array(items)
            }
            _ => return Err(io::Error::other(format!("not a reply: {line:?}"))),
        })
    }
}

/// One command to one node, for a test that injects a fault or looks at a node.
pub async fn ask(address: &Address, words: &[&str]) -> io::Result<Reply> {
    let command: Command = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    let mut replies = Connection::open(address).await?.exchange(&[command], Duration::from_secs(5)).await?;
    Ok(replies.remove(0))
}
