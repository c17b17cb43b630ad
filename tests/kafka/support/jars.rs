//! Brings Apache Kafka's jars by Maven, finds Java, and compiles the programs in it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::rehearsal;

pub(super) const KAFKA: &str = "4.3.0";

/// Where everything about Kafka is kept: `target/kafka`.
pub fn kafka_folder() -> PathBuf {
    // Cargo names a folder in `target` to tests and benches; programs lie one deeper themselves.
    let inside = match option_env!("CARGO_TARGET_TMPDIR") {
        Some(tmp) => PathBuf::from(tmp),
        None => {
            let this = std::env::current_exe().expect("this program has a path");
            this.parent().unwrap_or(&this).to_owned()
        }
    };
    inside.parent().unwrap_or(&inside).join("kafka")
}

/// The class path of everything that Java runs here.
pub fn class_path() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| format!("{}:{}", programs().display(), jars()))
}

/// A Java command with the options that all share; the class and its arguments are still to come.
///
/// Most of a JVM's time goes into starting: the simple collector and the quick compiler halve that, and loading classes
/// from an archive halves what is left.
pub fn java_command(heap_mb: u32) -> Command {
    let mut command = quick_java_command(heap_mb);
    if let Some(archive) = rehearsal::archive() {
        command.arg(format!("-XX:SharedArchiveFile={}", archive.display()));
        // What a JVM has to say of the archive is not for those who read the program's output.
        command.args(["-Xlog:disable", "-Xlog:all=warning:stderr"]);
    }
    command
}

/// The same without the archive: for making it.
pub(super) fn quick_java_command(heap_mb: u32) -> Command {
    let mut command = bare_java_command(heap_mb);
    command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command
}

/// The same with the options of Kafka's own start scripts: slow to start, and fast after some seconds of work.
pub fn fast_java_command(heap_mb: u32) -> Command {
    let mut command = bare_java_command(heap_mb);
    command.args([
        "-server",
        "-XX:+UseG1GC",
        "-XX:MaxGCPauseMillis=20",
        "-XX:InitiatingHeapOccupancyPercent=35",
        "-XX:+ExplicitGCInvokesConcurrent",
    ]);
    command
}

fn bare_java_command(heap_mb: u32) -> Command {
    let level = std::env::var("KLAMM_TEST_LOG").unwrap_or_else(|_| "warn".to_owned());
    let mut command = Command::new(java());
    command
        .arg(format!("-Dorg.slf4j.simpleLogger.defaultLogLevel={level}"))
        .arg(format!("-Xmx{heap_mb}m"))
        .args(["-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError"])
        .arg("-Dorg.slf4j.simpleLogger.showDateTime=true")
        .arg("-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS")
        .stdin(Stdio::null());
    command
}

/// All jars by name: only the launchers know what a `*` means, the compiler does not.
fn jars() -> String {
    let folder = libs();
    let mut jars: Vec<String> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()))
        .filter_map(Result::ok)
        .map(|entry| entry.path().display().to_string())
        .filter(|path| path.ends_with(".jar"))
        .collect();
    assert!(!jars.is_empty(), "no jars in {}", folder.display());
    jars.sort();
    jars.join(":")
}

/// The folder of jars: given, kept from an earlier run, or fetched now.
fn libs() -> &'static Path {
    static LIBS: OnceLock<PathBuf> = OnceLock::new();
    LIBS.get_or_init(|| {
        if let Some(given) = std::env::var_os("KLAMM_TEST_KAFKA_LIBS") {
            let given = PathBuf::from(given);
            assert!(
                given.is_dir(),
                "KLAMM_TEST_KAFKA_LIBS names {}, which is no folder",
                given.display()
            );
            return given;
        }
        let version = kafka_folder().join(KAFKA);
        make_once(&version.join("libs"), fetch_jars)
    })
}

fn fetch_jars(folder: &Path) {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        )
    };
    // Kafka's jars log through SLF4J 1 but bring nothing behind it; the simple backend writes to a file.
    let pom = format!(
        "<project><modelVersion>4.0.0</modelVersion><groupId>klamm</groupId><artifactId>test-kafka</artifactId>\
         <version>1</version><packaging>pom</packaging><dependencies>{}{}{}</dependencies></project>",
        dependency("org.apache.kafka", "kafka_2.13", KAFKA),
        dependency("org.apache.kafka", "kafka-tools", KAFKA),
        dependency("org.slf4j", "slf4j-simple", "1.7.36"),
    );
    let pom_file = folder.join("pom.xml");
    std::fs::write(&pom_file, pom).expect("the pom can be written");
    let output = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(&pom_file)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", folder.display()))
        .stdin(Stdio::null())
        .output();
    match output {
        Err(error) => panic!(
            "cannot run `mvn` ({error}): install Maven, or set KLAMM_TEST_KAFKA_LIBS to a folder with the jars of Kafka \
             {KAFKA}, or KLAMM_TEST_BOOTSTRAP to the address of a running cluster"
        ),
        Ok(output) => assert!(
            output.status.success(),
            "Maven could not bring Kafka {KAFKA}; set KLAMM_TEST_KAFKA_LIBS to a folder with its jars instead; it said:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        ),
    }
}

/// The compiled programs, compiled anew whenever one changes. In a jar, since an archive of classes takes no folders.
fn programs() -> PathBuf {
    const SOURCES: [(&str, &str); 2] = [
        ("Corner.java", include_str!("Corner.java")),
        ("Rehearsal.java", include_str!("Rehearsal.java")),
    ];
    let mut hasher = DefaultHasher::new();
    (SOURCES, libs()).hash(&mut hasher);
    let place = kafka_folder()
        .join(KAFKA)
        .join(format!("programs-{:016x}", hasher.finish()));
    let folder = make_once(&place, |folder| {
        let sources = SOURCES.map(|(name, text)| {
            let source = folder.join(name);
            std::fs::write(&source, text).expect("a program can be written");
            source
        });
        let classes = folder.join("classes");
        let mut compiler = jdk("jdk.compiler/com.sun.tools.javac.Main");
        compiler
            .args(["-nowarn", "-proc:none", "-cp", &jars(), "-d"])
            .arg(&classes);
        must(compiler.args(&sources));
        let mut packer = jdk("jdk.jartool/sun.tools.jar.Main");
        packer.arg("cf").arg(folder.join("programs.jar"));
        must(packer.arg("-C").arg(&classes).arg("."));
    });
    folder.join("programs.jar")
}

/// A tool of the JDK. Asking the found `java` for it, so that both are of one version.
fn jdk(tool: &str) -> Command {
    let mut command = Command::new(java());
    command.args(["-XX:TieredStopAtLevel=1", "-m", tool]);
    command
}

fn must(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("java starts");
    assert!(
        output.status.success(),
        "the programs in Java cannot be built (a JDK is needed, a JRE is not enough):\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}

/// Makes a folder that is either whole or absent.
///
/// It is made beside its place and renamed when whole, so a killed download is not believed, and of two test
/// processes that make it at once the second finds it there and throws its own away.
pub(super) fn make_once(place: &Path, make: impl FnOnce(&Path)) -> PathBuf {
    if !place.is_dir() {
        let name = place.file_name().expect("the place has a name").to_string_lossy();
        let draft = place.with_file_name(format!(".{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&draft);
        std::fs::create_dir_all(&draft).expect("a folder can be made under target");
        make(&draft);
        if std::fs::rename(&draft, place).is_err() {
            assert!(
                place.is_dir(),
                "cannot rename {} to {}",
                draft.display(),
                place.display()
            );
            let _ = std::fs::remove_dir_all(&draft);
        }
    }
    place.to_owned()
}

fn java() -> &'static Path {
    &found_java().0
}

/// What `java -version` says.
pub(super) fn java_says() -> &'static str {
    &found_java().1
}

fn found_java() -> &'static (PathBuf, String) {
    static JAVA: OnceLock<(PathBuf, String)> = OnceLock::new();
    JAVA.get_or_init(|| {
        let java = if let Some(given) = std::env::var_os("KLAMM_TEST_JAVA") {
            PathBuf::from(given)
        } else if let Some(home) = std::env::var_os("JAVA_HOME") {
            Path::new(&home).join("bin/java")
        } else {
            PathBuf::from("java")
        };
        let need = "install a JDK of version 17 or newer, set KLAMM_TEST_JAVA to its `java`, or set KLAMM_TEST_BOOTSTRAP \
                    to the address of a running cluster";
        match Command::new(&java).arg("-version").stdin(Stdio::null()).output() {
            Err(error) => panic!("cannot run {} ({error}): {need}", java.display()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let version = major_version(&said);
                assert!(version >= Some(17), "{} is not Java 17 or newer (it says {said:?}): {need}", java.display());
                let said = said.into_owned();
                (java, said)
            }
        }
    })
}

/// The 17 of `openjdk version "17.0.15" 2025-04-15`.
fn major_version(said: &str) -> Option<u32> {
    let quoted = said.split('"').nth(1)?;
    quoted.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
