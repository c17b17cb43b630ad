//! The other side, in a process of its own: what it does is not counted.

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use crate::{
    liar::{Batch, Liar, record},
    process::wait_for_parent,
    values::noise,
};

pub(crate) const VALUE_BYTES: usize = 100;
/// About 64 KiB.
const BATCH: usize = 500;

/// A fresh one for each run: what one has committed or written, the next does not meet.
pub(crate) struct Broker {
    process: Child,
    bootstrap: String,
}

impl Broker {
    pub(crate) fn start(records: usize) -> Self {
        let this = env::current_exe().expect("this program has a path");
        let mut process = Command::new(this)
            .args(["serve", &records.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the bench starts itself");
        let mut bootstrap = String::new();
        BufReader::new(process.stdout.take().expect("a pipe"))
            .read_line(&mut bootstrap)
            .expect("the broker says where it is");
        Self {
            process,
            bootstrap: bootstrap.trim().to_owned(),
        }
    }

    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().ok();
    }
}

/// Until whoever has started this is gone.
pub(crate) fn serve(records: usize) {
    assert_eq!(records % BATCH, 0, "whole batches");
    let value = noise(0, VALUE_BYTES);
    let batch: Vec<_> = (0..BATCH).map(|delta| record(delta as i64, &value)).collect();
    let batch = batch.concat();
    let log = (0..records).step_by(BATCH);
    let log = log.map(|base| Batch::from_bytes(base as i64, BATCH as i64, 0, &batch));
    let liar = Liar::start(log.collect());
    println!("{}", liar.bootstrap());
    wait_for_parent();
}
