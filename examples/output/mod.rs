//! Messages as lines on the standard output, which is locked once and buffered.

use std::{
    io::{self, BufWriter, ErrorKind, StdoutLock, Write},
    time::SystemTime,
};

use klamm::Message;

/// How a message becomes a line.
#[allow(dead_code, reason = "no program offers all of them")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Where it is, its key and its value, as they are; `-` for none.
    Place,
    /// The value as it is; nothing for none.
    Value,
    /// The key, a tab, and the value.
    KeyAndValue,
    /// A JSON object with all there is of it.
    Json,
}

/// The standard output.
#[derive(Debug)]
pub(crate) struct Output {
    to: BufWriter<StdoutLock<'static>>,
    format: Format,
}

impl Output {
    /// Nobody else may write to it from now on.
    pub(crate) fn new(format: Format) -> Self {
        Self {
            to: BufWriter::with_capacity(64 << 10, io::stdout().lock()),
            format,
        }
    }

    /// Writes one line, which is seen after [`flush`](Self::flush) at the latest.
    pub(crate) fn write(&mut self, message: &Message) -> io::Result<()> {
        match self.format {
            Format::Place => {
                let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
                write!(self.to, "{topic}-{partition} {offset} ")?;
                self.to.write_all(message.key().unwrap_or(b"-"))?;
                self.to.write_all(b" ")?;
                self.to.write_all(message.value().unwrap_or(b"-"))?;
            }
            Format::KeyAndValue => {
                self.to.write_all(message.key().unwrap_or_default())?;
                self.to.write_all(b"\t")?;
                self.to.write_all(message.value().unwrap_or_default())?;
            }
            Format::Value => self.to.write_all(message.value().unwrap_or_default())?,
            Format::Json => self.write_json(message)?,
        }
        self.to.write_all(b"\n")
    }

    /// What was written is seen.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    fn write_json(&mut self, message: &Message) -> io::Result<()> {
        let to = &mut self.to;
        to.write_all(b"{\"topic\":")?;
        write_string(to, message.topic())?;
        let (partition, offset) = (message.partition(), message.offset());
        write!(to, ",\"partition\":{partition},\"offset\":{offset},\"timestamp\":")?;
        match message
            .timestamp()
            .map(|time| time.duration_since(SystemTime::UNIX_EPOCH))
        {
            Some(Ok(since)) => write!(to, "{}", since.as_millis())?,
            _ => to.write_all(b"null")?,
        }
        to.write_all(b",\"key\":")?;
        write_bytes(to, message.key())?;
        to.write_all(b",\"value\":")?;
        write_bytes(to, message.value())?;
        to.write_all(b",\"headers\":[")?;
        for (at, header) in message.headers().enumerate() {
            to.write_all(if at == 0 { b"[" } else { b",[" })?;
            write_bytes(to, Some(header.key_bytes()))?;
            to.write_all(b",")?;
            write_bytes(to, header.value())?;
            to.write_all(b"]")?;
        }
        to.write_all(b"]}")
    }
}

/// Whoever read our output has seen enough: `| head` is no error.
pub(crate) fn is_over(error: &io::Error) -> bool {
    error.kind() == ErrorKind::BrokenPipe
}

/// Text as a string; what is not UTF-8 as `{"base64": "…"}`, so that nothing is lost or mistaken.
fn write_bytes(to: &mut impl Write, bytes: Option<&[u8]>) -> io::Result<()> {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => to.write_all(b"null"),
        Some((_, Ok(text))) => write_string(to, text),
        Some((bytes, Err(_))) => {
            to.write_all(b"{\"base64\":\"")?;
            write_base64(to, bytes)?;
            to.write_all(b"\"}")
        }
    }
}

fn write_string(to: &mut impl Write, text: &str) -> io::Result<()> {
    to.write_all(b"\"")?;
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c == '"' || c == '\\' || c < ' ') {
        to.write_all(&rest.as_bytes()[..at])?;
        match rest.as_bytes()[at] {
            b'"' => to.write_all(b"\\\"")?,
            b'\\' => to.write_all(b"\\\\")?,
            b'\n' => to.write_all(b"\\n")?,
            b'\r' => to.write_all(b"\\r")?,
            b'\t' => to.write_all(b"\\t")?,
            control => write!(to, "\\u{control:04x}")?,
        }
        rest = &rest[at + 1..];
    }
    to.write_all(rest.as_bytes())?;
    to.write_all(b"\"")
}

fn write_base64(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let mut digits = [18, 12, 6, 0].map(|shift| DIGITS[(bits >> shift & 63) as usize]);
        digits[three.len() + 1..].fill(b'=');
        to.write_all(&digits)?;
    }
    Ok(())
}
