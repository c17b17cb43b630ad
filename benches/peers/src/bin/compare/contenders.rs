//! Who takes part, and how each is started.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{options::Options, rows::Kind, support::class_path};

/// A client in one of its ways.
#[derive(Debug, Clone)]
pub(crate) struct Contender {
    /// As `--peers` has it.
    pub(crate) name: String,
    peer: &'static Peer,
    /// The program, and what it is always given first.
    command: Vec<PathBuf>,
    variant: Option<String>,
    pub(crate) tuned: bool,
}

#[derive(Debug)]
struct Peer {
    name: &'static str,
    made_of: Source,
    has_tuned: bool,
    /// It reads one of so many messages, with default settings and with tuned ones: what takes it longer than others tells
    /// no more.
    reads_one_in: [u64; 2],
    /// The same for writing.
    writes_one_in: [u64; 2],
    /// Other ways to read, which take part unless they are not asked for.
    reads_by: &'static [&'static str],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Rust,
    Java,
    Go,
}

const PEERS: &[Peer] = &[
    Peer {
        has_tuned: false,
        ..rust("floor")
    },
    Peer {
        has_tuned: false,
        reads_by: &["batches", "group"],
        ..rust("klamm")
    },
    Peer {
        reads_one_in: [10, 2],
        reads_by: &["batch"],
        ..rust("rdkafka")
    },
    rust("rskafka"),
    rust("barnabas"),
    Peer {
        reads_one_in: [10, 3],
        writes_one_in: [4, 4],
        ..rust("krafka")
    },
    Peer {
        reads_one_in: [2, 2],
        ..rust("confluent")
    },
    Peer {
        made_of: Source::Go,
        ..rust("franz")
    },
    Peer {
        made_of: Source::Go,
        writes_one_in: [3, 3],
        ..rust("sarama")
    },
    Peer {
        made_of: Source::Java,
        reads_one_in: [5, 5],
        writes_one_in: [2, 2],
        ..rust("java")
    },
];

const fn rust(name: &'static str) -> Peer {
    Peer {
        name,
        made_of: Source::Rust,
        has_tuned: true,
        reads_one_in: [1, 1],
        writes_one_in: [1, 1],
        reads_by: &[],
    }
}

/// The floor first, and then everybody who is wanted and can be started. Says who cannot, and why.
pub(crate) fn find(options: &Options) -> Result<Vec<Contender>, String> {
    let (mut contenders, mut absent) = (Vec::new(), Vec::new());
    for (peer, variant) in wanted(options)? {
        let command = match command(peer) {
            Ok(command) => command,
            Err(reason) => {
                absent.push((peer.name, reason));
                continue;
            }
        };
        let name = variant.map_or_else(|| peer.name.to_owned(), |variant| format!("{}:{variant}", peer.name));
        let usual = Contender {
            name,
            peer,
            command,
            variant: variant.map(str::to_owned),
            tuned: false,
        };
        let tuned = (options.tuned && peer.has_tuned).then(|| Contender {
            name: format!("{}, tuned", usual.name),
            tuned: true,
            ..usual.clone()
        });
        contenders.push(usual);
        contenders.extend(tuned);
    }
    say_who_is_absent(&mut absent);
    match contenders.first() {
        Some(first) if is_floor(&first.name) => Ok(contenders),
        _ => Err("there is no floor, and nothing to compare with".to_owned()),
    }
}

/// In one line, by the reasons.
fn say_who_is_absent(absent: &mut Vec<(&str, String)>) {
    absent.dedup();
    let said = absent.chunk_by(|(_, one), (_, next)| one == next).map(|alike| {
        let names: Vec<_> = alike.iter().map(|(name, _)| *name).collect();
        format!("{} ({})", names.join(", "), alike[0].1)
    });
    if !absent.is_empty() {
        println!("Left out: {}.\n", said.collect::<Vec<_>>().join("; "));
    }
}

/// In the order of the table.
fn wanted(options: &Options) -> Result<Vec<(&'static Peer, Option<&str>)>, String> {
    let Some(names) = &options.peers else {
        let each = PEERS.iter().flat_map(|peer| {
            let variants = peer.reads_by.iter().map(move |&variant| (peer, Some(variant)));
            [(peer, None)].into_iter().chain(variants)
        });
        return Ok(each.collect());
    };
    let mut wanted = vec![(&PEERS[0], None)];
    for name in names.iter().filter(|name| *name != PEERS[0].name) {
        let (name, variant) = match name.split_once(':') {
            Some((name, variant)) => (name, Some(variant)),
            None => (name.as_str(), None),
        };
        let peer = PEERS.iter().find(|peer| peer.name == name);
        wanted.push((peer.ok_or_else(|| format!("no peer is called {name:?}"))?, variant));
    }
    Ok(wanted)
}

/// By a contender's name.
pub(crate) fn is_floor(name: &str) -> bool {
    name == PEERS[0].name
}

/// In any of its ways.
pub(crate) fn is_klamm(name: &str) -> bool {
    name.split(':').next() == Some("klamm")
}

impl Contender {
    /// A way to read is no second way to write, and settings for throughput change nothing where there is none. Nobody waits
    /// in the floor.
    pub(crate) fn takes_part(&self, kind: Kind) -> bool {
        let variant = self.variant.as_deref();
        let only_reads = variant.is_some_and(|variant| self.peer.reads_by.contains(&variant));
        match kind {
            Kind::Read => true,
            Kind::Write => !only_reads,
            Kind::Neighbours(_) => !self.tuned,
            Kind::Latency | Kind::Idle => !only_reads && !self.tuned,
            Kind::LongPoll => !only_reads && !self.tuned && !is_floor(&self.name),
        }
    }

    pub(crate) fn reads_one_in(&self) -> u64 {
        match &self.variant {
            None => self.peer.reads_one_in[usize::from(self.tuned)],
            // Interfaces are there to be faster.
            Some(_) => 1,
        }
    }

    pub(crate) fn writes_one_in(&self) -> u64 {
        self.peer.writes_one_in[usize::from(self.tuned)]
    }

    /// The program with what only this contender is given behind the task.
    pub(crate) fn command(&self, task: &str) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).arg(task);
        match self.variant.as_deref() {
            Some("group") => {
                command.arg("--group");
            }
            Some(api) => {
                command.args(["--api", api]);
            }
            None => {}
        }
        if self.tuned {
            command.arg("--tuned");
        }
        command
    }
}

// ---- programs ----

fn command(peer: &Peer) -> Result<Vec<PathBuf>, String> {
    let here = programs();
    match peer.made_of {
        Source::Rust => {
            let program = here.join(peer.name);
            if !program.is_file() {
                return Err(
                    "`cargo build --release --manifest-path benches/peers/Cargo.toml --all-features` builds it"
                        .to_owned(),
                );
            }
            Ok(vec![program])
        }
        Source::Java => java(&here.join("peers-java")),
        Source::Go => go(&here.join("peers-go"), peer.name),
    }
}

/// Where this program lies, and its siblings.
fn programs() -> PathBuf {
    let this = env::current_exe().expect("this program has a path");
    this.parent().expect("it lies in a folder").to_owned()
}

fn java(classes: &Path) -> Result<Vec<PathBuf>, String> {
    let version = Command::new("javac").arg("-version").output();
    if version.is_err() {
        return Err("there is no `javac` on the PATH".to_owned());
    }
    let folder = source("java");
    let files = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let files = files.filter_map(|file| Some(file.ok()?.path()));
    let programs = files.filter(|file| file.extension().is_some_and(|extension| extension == "java"));
    let mut compiler = Command::new("javac");
    compiler
        .args(["-nowarn", "-proc:none", "-cp", class_path(), "-d"])
        .arg(classes)
        .args(programs);
    succeed(compiler.output(), "javac")?;
    let class_path = format!("{}:{}", classes.display(), class_path());
    Ok(["java", "-cp", &class_path, "Peer"].map(PathBuf::from).into())
}

fn go(programs: &Path, name: &str) -> Result<Vec<PathBuf>, String> {
    if Command::new("go").arg("version").output().is_err() {
        return Err("there is no `go` on the PATH".to_owned());
    }
    let program = programs.join(name);
    let mut compiler = Command::new("go");
    compiler
        .current_dir(source("go"))
        // One that is too old must not fetch another.
        .env("GOTOOLCHAIN", "local")
        .args(["build", "-o"])
        .arg(&program)
        .arg(format!("./cmd/{name}"));
    succeed(compiler.output(), "go build")?;
    Ok(vec![program])
}

fn source(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(language)
}

fn succeed(output: io::Result<Output>, what: &str) -> Result<(), String> {
    let output = output.map_err(|error| format!("{what}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    Err(format!("{what} fails"))
}
