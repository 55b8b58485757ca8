//! The frames in what a node sends. Pure.

use bytes::{Buf as _, BytesMut};
use redis::{RedisResult, Value, ValueCodec};
use tokio_util::codec::Decoder as _;

use super::wire::{self, Push};

#[derive(Debug, PartialEq)]
pub enum Frame {
    Push(Push),
    Reply(Value),
}

#[derive(Default)]
pub struct Frames {
    /// What has arrived and was not read yet.
    pub inbox: BytesMut,
    codec: ValueCodec,
    /// The codec holds a part of a frame.
    within: bool,
}

impl Frames {
    pub fn with_capacity(bytes: usize) -> Self {
        Self { inbox: BytesMut::with_capacity(bytes), ..Self::default() }
    }

    /// The next whole frame. Nearly all are numbers and pushes of the keyspace, and those take no parser. `prefix` is what the
    /// channels of the keyspace begin with.
    pub fn next(&mut self, prefix: &[u8]) -> RedisResult<Option<Frame>> {
        if self.inbox.is_empty() {
            return Ok(None);
        }
        if !self.within {
            if let Some((number, length)) = wire::number(&self.inbox) {
                self.inbox.advance(length);
                return Ok(Some(Frame::Reply(Value::Int(number))));
            }
            if let Some((push, length)) = wire::whole_push(&self.inbox, prefix) {
                self.inbox.advance(length);
                return Ok(Some(Frame::Push(push)));
            }
        }
        let frame = self.codec.decode(&mut self.inbox)?;
        self.within = frame.is_none();
        Ok(frame.map(|value| match value {
            Value::Push { kind, data } => Frame::Push(wire::push(&kind, data, prefix)),
            reply => Frame::Reply(reply),
        }))
    }
}
