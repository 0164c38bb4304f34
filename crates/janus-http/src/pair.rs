//! One raw request and its raw response.

use crate::{Message, Result};

/// One raw HTTP request and its raw response, any bytes, parsed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpPair {
    request: Message,
    response: Message,
}

impl HttpPair {
    /// Reads a pair from the raw bytes of both messages.
    ///
    /// # Errors
    /// When a message is empty or does not begin with a start line of its kind. Everything else is taken as captured.
    pub fn parse(request: impl Into<Vec<u8>>, response: impl Into<Vec<u8>>) -> Result<Self> {
        Ok(Self {
            request: Message::parse_request(request.into())?,
            response: Message::parse_response(response.into())?,
        })
    }

    /// The request.
    pub fn request(&self) -> &Message {
        &self.request
    }

    /// The response.
    pub fn response(&self) -> &Message {
        &self.response
    }
}
