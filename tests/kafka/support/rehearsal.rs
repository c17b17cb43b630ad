//! The classes that brokers and Java's clients load, in an archive from which a JVM starts in half the time.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use super::{jars, kafka::free_port, process::Process};

/// Such an archive for this class path and this JVM, made in the first run of all.
///
/// A JVM that cannot use it starts without it by itself.
pub fn archive() -> Option<&'static Path> {
    static ARCHIVE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let archive = ARCHIVE.get_or_init(|| {
        let mut hasher = DefaultHasher::new();
        (jars::class_path(), jars::java_says()).hash(&mut hasher);
        let place = jars::kafka_folder()
            .join(jars::KAFKA)
            .join(format!("classes-{:016x}", hasher.finish()));
        let archive = jars::make_once(&place, rehearse).join("classes.jsa");
        archive.is_file().then_some(archive)
    });
    archive.as_deref()
}

/// Leaves no archive behind when it does not work: everything works without, only slower.
fn rehearse(folder: &Path) {
    let (client, controller) = (free_port(), free_port());
    let properties = folder.join("server.properties");
    let data = folder.join("data");
    let lines = [
        "process.roles=broker,controller".to_owned(),
        "node.id=1".to_owned(),
        format!("listeners=PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}"),
        "controller.listener.names=CONTROLLER".to_owned(),
        format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
        format!("log.dirs={}", data.display()),
        "offsets.topic.replication.factor=1".to_owned(),
        "offsets.topic.num.partitions=1".to_owned(),
        "group.initial.rebalance.delay.ms=0".to_owned(),
    ];
    std::fs::write(&properties, lines.join("\n")).expect("server.properties can be written");
    let archive = folder.join("classes.jsa");
    let said = std::fs::File::create(folder.join("out.txt")).expect("a file can be made");
    let mut command = jars::quick_java_command(512);
    command
        .arg(format!("-XX:ArchiveClassesAtExit={}", archive.display()))
        .args(["-cp", jars::class_path(), "Rehearsal"])
        .arg(&properties)
        .arg(format!("127.0.0.1:{client}"))
        .current_dir(folder)
        .stderr(said.try_clone().expect("a file has many handles"))
        .stdout(Stdio::from(said));
    let status = Process::start(&mut command).wait(Duration::from_secs(180));
    if !status.is_some_and(|status| status.success()) {
        eprintln!(
            "no archive of Java's classes could be made ({status:?}), tests take longer without; see {}",
            folder.join("out.txt").display()
        );
        std::fs::remove_file(&archive).ok(); // half an archive
    }
    std::fs::remove_dir_all(&data).ok();
}
