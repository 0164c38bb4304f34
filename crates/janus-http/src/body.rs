//! Taking transfer and content encodings off a body.

use std::{borrow::Cow, io::Read};

use crate::Message;

/// The most bytes that decoding a body may produce. A compressed body that grows beyond it is cut there.
pub const MAX_DECODED_BODY: usize = 64 << 20;

/// A body with its transfer and content encodings taken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedBody<'a> {
    /// The bytes, borrowed from the message where nothing had to be decoded.
    pub bytes: Cow<'a, [u8]>,
    /// Whether anything was decoded: offsets into `bytes` are then not offsets into the captured body.
    pub decoded: bool,
    /// Whether something is missing: a chunk or a compressed stream ends early, is damaged, or grew beyond
    /// [`MAX_DECODED_BODY`], or its encoding is not one that we read.
    pub incomplete: bool,
}

pub(crate) fn decode(message: &Message) -> DecodedBody<'_> {
    let mut body = DecodedBody { bytes: Cow::Borrowed(message.body()), decoded: false, incomplete: false };
    if names(message, "transfer-encoding").iter().any(|name| name == "chunked") {
        dechunk(&mut body);
    }
    // Encodings were applied in the order listed, so they come off from the last to the first.
    for name in names(message, "content-encoding").iter().rev() {
        match name.as_str() {
            "gzip" | "x-gzip" if body.bytes.starts_with(&[0x1f, 0x8b]) => {
                inflate(&mut body, |bytes| Box::new(flate2::read::MultiGzDecoder::new(bytes)));
            }
            "deflate" if is_zlib(&body.bytes) => {
                inflate(&mut body, |bytes| Box::new(flate2::read::ZlibDecoder::new(bytes)));
            }
            // Some servers leave out the zlib header; browsers read that too.
            "deflate" if !body.bytes.is_empty() && std::str::from_utf8(&body.bytes).is_err() => {
                inflate(&mut body, |bytes| Box::new(flate2::read::DeflateDecoder::new(bytes)));
            }
            "br" if !body.bytes.is_empty() && std::str::from_utf8(&body.bytes).is_err() => {
                inflate(&mut body, |bytes| Box::new(brotli_decompressor::Decompressor::new(bytes, 4096)));
            }
            // Proxies often store the body decoded and leave the header: what is plainly not encoded is taken as it is.
            "gzip" | "x-gzip" | "deflate" | "br" | "identity" => {}
            _ => {
                body.incomplete = true;
                break;
            }
        }
    }
    body
}

/// The comma-separated names in a header, lower case.
fn names(message: &Message, header: &str) -> Vec<String> {
    message
        .header(header)
        .map(|value| {
            value.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty()).collect()
        })
        .unwrap_or_default()
}

fn is_zlib(bytes: &[u8]) -> bool {
    bytes.len() >= 2 && bytes[0] & 0x0f == 8 && (u16::from(bytes[0]) << 8 | u16::from(bytes[1])).is_multiple_of(31)
}

/// RFC 9112, section 7.1. A body that does not begin with a chunk size was stored without its chunks.
fn dechunk(body: &mut DecodedBody<'_>) {
    let mut rest = &body.bytes[..];
    let mut joined = Vec::new();
    let mut finished = false;
    let mut any = false;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let line = String::from_utf8_lossy(&rest[..end.min(80)]);
        let size = line.split(';').next().unwrap_or_default().trim();
        let digits = !size.is_empty() && size.bytes().all(|digit| digit.is_ascii_hexdigit());
        let Some(size) = digits.then(|| usize::from_str_radix(size, 16).ok()).flatten() else { break };
        rest = &rest[end + 1..];
        if size == 0 {
            (any, finished) = (true, true);
            break;
        }
        let taken = size.min(rest.len());
        let (data, behind) = rest.split_at(taken);
        let ended = behind.strip_prefix(b"\r\n").or_else(|| behind.strip_prefix(b"\n"));
        // A line that only looks like a size has no line ending where its chunk would end.
        if ended.is_none() && !behind.is_empty() {
            break;
        }
        any = true;
        joined.extend_from_slice(data);
        rest = ended.unwrap_or(behind);
    }
    if any {
        *body = DecodedBody { bytes: Cow::Owned(joined), decoded: true, incomplete: !finished };
    }
}

fn inflate(body: &mut DecodedBody<'_>, reader: impl for<'b> Fn(&'b [u8]) -> Box<dyn Read + 'b>) {
    let mut out = Vec::new();
    let result = reader(&body.bytes).take(MAX_DECODED_BODY as u64 + 1).read_to_end(&mut out);
    let cut = out.len() > MAX_DECODED_BODY;
    out.truncate(MAX_DECODED_BODY);
    // A stream that ends early still gave its first part; one that gave nothing stays as captured.
    match result {
        Err(_) if out.is_empty() => body.incomplete = true,
        result => {
            let incomplete = body.incomplete || cut || result.is_err();
            *body = DecodedBody { bytes: Cow::Owned(out), decoded: true, incomplete };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn response(head: &str, body: &[u8]) -> Message {
        let raw = [b"HTTP/1.1 200 OK\r\n".as_slice(), head.as_bytes(), b"\r\n\r\n", body].concat();
        Message::parse_response(raw).expect("valid")
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).expect("in memory");
        encoder.finish().expect("in memory")
    }

    #[test]
    fn chunks_are_joined_and_an_early_end_is_said() {
        let whole = response("Transfer-Encoding: chunked", b"4\r\nWiki\r\n5;x=y\r\npedia\r\n0\r\n\r\n");
        let body = whole.decoded_body();
        assert_eq!((&*body.bytes, body.decoded, body.incomplete), (b"Wikipedia".as_slice(), true, false));
        let short = response("Transfer-Encoding: chunked", b"4\r\nWiki\r\n5\r\npe");
        let body = short.decoded_body();
        assert_eq!((&*body.bytes, body.incomplete), (b"Wikipe".as_slice(), true));
    }

    #[test]
    fn a_body_stored_without_its_encoding_is_taken_as_it_is() {
        for plain in ["10\nshort lines\nand more of them, so that it goes on", "+5\nhello\n"] {
            let message = response("Transfer-Encoding: chunked", plain.as_bytes());
            assert_eq!((&*message.decoded_body().bytes, message.decoded_body().decoded), (plain.as_bytes(), false));
        }
        let message = response("Transfer-Encoding: chunked\r\nContent-Encoding: gzip, br", b"<p>plain</p>");
        let body = message.decoded_body();
        assert_eq!((&*body.bytes, body.decoded, body.incomplete), (b"<p>plain</p>".as_slice(), false, false));
    }

    #[test]
    fn gzip_inside_chunks_is_decoded_and_a_cut_stream_gives_its_first_part() {
        let zipped = gzip(&b"<p>hello</p>".repeat(500));
        let chunked = [format!("{:x}\r\n", zipped.len()).as_bytes(), &zipped, b"\r\n0\r\n\r\n"].concat();
        let message = response("Transfer-Encoding: chunked\r\nContent-Encoding: gzip", &chunked);
        let body = message.decoded_body();
        assert_eq!((body.bytes.len(), body.incomplete), (6000, false));
        let message = response("Content-Encoding: gzip", &zipped[..zipped.len() - 12]);
        let body = message.decoded_body();
        assert!(body.incomplete && body.decoded && body.bytes.starts_with(b"<p>hello"));
    }

    #[test]
    fn deflate_is_read_with_its_header_and_without() {
        let text = b"<p>hello</p>".repeat(50);
        let mut with = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        with.write_all(&text).expect("in memory");
        let mut without = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        without.write_all(&text).expect("in memory");
        for bytes in [with.finish().expect("in memory"), without.finish().expect("in memory")] {
            let message = response("Content-Encoding: deflate", &bytes);
            assert_eq!(&*message.decoded_body().bytes, text);
        }
    }

    #[test]
    fn a_compression_bomb_stops_at_the_limit() {
        let message = response("Content-Encoding: gzip", &gzip(&vec![0; MAX_DECODED_BODY + 10]));
        let body = message.decoded_body();
        assert_eq!((body.bytes.len(), body.incomplete), (MAX_DECODED_BODY, true));
    }

    #[test]
    fn an_encoding_that_we_do_not_read_is_said() {
        assert!(response("Content-Encoding: zstd", b"\x28\xb5\x2f\xfd").decoded_body().incomplete);
    }
}
