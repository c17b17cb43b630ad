//! A small database of messages: one file per partition, which is only appended to, one line per message.
//!
//! A line is: offset, checksum, key and value, with tabs between. Keys and values are escaped as in Rust's byte strings,
//! so that a line is a line; `\N` is none. What is in the file to the last whole line is what is stored: a line that was
//! cut short when the program or the machine died is no whole one.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use klamm::Message;

/// Any number of programs may use one folder, as long as each partition has one writer at a time: as in a group.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    logs: HashMap<(String, i32), Log>,
}

#[derive(Debug)]
struct Log {
    file: File,
    /// Up to here it is known.
    end: u64,
    /// Messages below this offset are in it.
    next_offset: i64,
}

impl Store {
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            logs: HashMap::new(),
        })
    }

    /// Stores messages of one partition, in order, and returns when no crash can take them away. Those that are there
    /// already stay as they are. How many were new.
    pub(crate) fn write(&mut self, topic: &str, partition: i32, messages: &[Message]) -> io::Result<usize> {
        let log = match self.logs.entry((topic.to_owned(), partition)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Log::open(&self.folder, topic, partition)?),
        };
        let written = log.write(messages);
        if written.is_err() {
            // What of it is on the disk is not known: it is to be read again.
            self.logs.clear();
        }
        written
    }
}

impl Log {
    fn open(folder: &Path, topic: &str, partition: i32) -> io::Result<Self> {
        let path = folder.join(format!("{topic}-{partition}.log"));
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        // The name of a new file must last as well.
        #[cfg(unix)]
        File::open(folder)?.sync_all()?;
        Ok(Self {
            file,
            end: 0,
            next_offset: 0,
        })
    }

    fn write(&mut self, messages: &[Message]) -> io::Result<usize> {
        self.catch_up()?;
        let mut lines = Vec::new();
        let mut count = 0;
        for message in messages.iter().filter(|message| message.offset() >= self.next_offset) {
            write_line(&mut lines, message)?;
            count += 1;
        }
        self.file.write_all(&lines)?;
        // Also when nothing was new: whoever wrote it may have died before this.
        self.file.sync_data()?;
        self.end += lines.len() as u64;
        if let Some(last) = messages.last() {
            self.next_offset = self.next_offset.max(last.offset() + 1);
        }
        Ok(count)
    }

    /// Reads what others have written, who had the partition before or in between, and cuts off half a line.
    fn catch_up(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        if length == self.end {
            return Ok(());
        }
        if length < self.end {
            (self.end, self.next_offset) = (0, 0);
        }
        self.file.seek(SeekFrom::Start(self.end))?;
        let mut lines = BufReader::new(&self.file);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            let Some(offset) = read_line(&line) else { break };
            self.end += line.len() as u64;
            self.next_offset = offset + 1;
            line.clear();
        }
        if !line.is_empty() {
            self.file.set_len(self.end)?;
        }
        Ok(())
    }
}

fn write_line(to: &mut Vec<u8>, message: &Message) -> io::Result<()> {
    let text = |bytes: Option<&[u8]>| bytes.map_or("\\N".to_owned(), |bytes| bytes.escape_ascii().to_string());
    let (offset, rest) = (
        message.offset(),
        format!("{}\t{}", text(message.key()), text(message.value())),
    );
    writeln!(to, "{offset}\t{:016x}\t{rest}", checksum(offset, rest.as_bytes()))
}

/// The offset of a whole line.
fn read_line(line: &[u8]) -> Option<i64> {
    let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let (offset, line) = line.split_once('\t')?;
    let (sum, rest) = line.split_once('\t')?;
    let offset = offset.parse().ok()?;
    (u64::from_str_radix(sum, 16).ok()? == checksum(offset, rest.as_bytes())).then_some(offset)
}

/// FNV-1a: enough to know a line that a machine has not written to its end.
fn checksum(offset: i64, rest: &[u8]) -> u64 {
    let offset = offset.to_be_bytes();
    let bytes = offset.iter().chain(rest);
    bytes.fold(0xcbf2_9ce4_8422_2325, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
