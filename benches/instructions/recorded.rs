//! What was measured once and is to stay: a file beside the code, so that a change of it is seen where it is made.

use std::{collections::BTreeMap, env, fs, process::Command};

use crate::callgrind;

/// Of one workload, by message.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    /// Instructions of the whole process.
    pub(crate) all: f64,
    /// Those of the thread that calls klamm.
    pub(crate) caller: f64,
    /// Of the whole process.
    pub(crate) allocations: f64,
}

impl Figures {
    pub(crate) fn least(&self, other: &Self) -> Self {
        Self {
            all: self.all.min(other.all),
            caller: self.caller.min(other.caller),
            allocations: self.allocations.min(other.allocations),
        }
    }
}

/// A tenth: more than compilers and the machine's C library make of it, less than a mistake in a hot path.
const MOST: f64 = 1.1;
const LEAST: f64 = 0.9;
/// What batches and answers need scatters by less than a quarter; a hundredth, where that is next to nothing.
const ALLOCATIONS: f64 = 1.25;
const HARDLY_ANY: f64 = 0.01;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/recorded.txt");
const BENCH: &str = "cargo bench --bench instructions --features unstable-internals --";

pub(crate) struct Recorded {
    /// The programs that it was recorded with.
    tools: String,
    figures: BTreeMap<String, Figures>,
}

impl Recorded {
    /// Empty when there is no file.
    pub(crate) fn read() -> Self {
        let text = fs::read_to_string(FILE).unwrap_or_default();
        let tools = text.lines().find_map(|line| line.strip_prefix("# with: "));
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let figures = lines.map(|line| {
            let [name, all, caller, allocations] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                panic!("{FILE}: {line:?} is not a name and three numbers");
            };
            let [all, caller, allocations] = [all, caller, allocations].map(|number| number.parse().expect("a number"));
            let figures = Figures {
                all,
                caller,
                allocations,
            };
            (name.to_owned(), figures)
        });
        Self {
            tools: tools.unwrap_or("nothing").to_owned(),
            figures: figures.collect(),
        }
    }

    pub(crate) fn insert(&mut self, workload: &str, figures: Figures) {
        self.figures.insert(workload.to_owned(), figures);
    }

    pub(crate) fn write(&self) {
        let title = "# Per message: instructions of the whole process, of the caller's thread; allocations";
        let mut text = format!("{title}\n# with: {}\n", tools());
        for (name, figures) in &self.figures {
            let Figures {
                all,
                caller,
                allocations,
            } = figures;
            text += &format!("{name:<10}{all:>10.1}{caller:>10.1}{allocations:>10.3}\n");
        }
        fs::write(FILE, text).expect("the record is written");
        println!("\nrecorded in {FILE}");
    }

    // ---- what it says to new figures ----

    /// One sentence for each figure that is too high.
    pub(crate) fn grown(&self, workload: &str, new: &Figures) -> Vec<String> {
        let Some(old) = self.figures.get(workload) else {
            return vec![format!("{workload}: nothing is recorded")];
        };
        let instructions = [
            ("instructions", new.all, old.all),
            ("instructions of the caller", new.caller, old.caller),
        ];
        let instructions = instructions
            .into_iter()
            .filter(|(_, new, old)| *new > old * MOST)
            .map(|(what, new, old)| format!("{workload}: {new:.1} {what}, recorded are {old:.1}"));
        let allocations = (new.allocations > (old.allocations * ALLOCATIONS).min(old.allocations + 0.1) + HARDLY_ANY)
            .then(|| {
                let (new, old) = (new.allocations, old.allocations);
                format!("{workload}: {new:.3} allocations, recorded are {old:.3}")
            });
        instructions.chain(allocations).collect()
    }

    pub(crate) fn print_title(&self) {
        let groups = ["instructions", "the caller's", "allocations"];
        println!("{:<10}{:>28}{:>28}{:>20}", "a message", groups[0], groups[1], groups[2]);
        println!(
            "{:>20}{:>10}{:>8}{:>10}{:>10}{:>8}{:>10}{:>10}",
            "now", "recorded", "", "now", "recorded", "", "now", "recorded"
        );
    }

    pub(crate) fn print(&self, workload: &str, new: &Figures) {
        let Some(old) = self.figures.get(workload) else {
            println!(
                "{workload:<10}{:>10.1}{:>28.1}{:>28.3}",
                new.all, new.caller, new.allocations
            );
            return;
        };
        let ratios = [new.all / old.all, new.caller / old.caller];
        let advice = match ratios.iter().any(|ratio| *ratio < LEAST) {
            true => "   less than nine tenths: record it, so that it stays",
            false => "",
        };
        println!(
            "{workload:<10}{:>10.1}{:>10.1}{:>8.2}{:>10.1}{:>10.1}{:>8.2}{:>10.3}{:>10.3}{advice}",
            new.all, old.all, ratios[0], new.caller, old.caller, ratios[1], new.allocations, old.allocations,
        );
    }

    /// If others were used.
    pub(crate) fn print_tools(&self) {
        let tools = tools();
        if tools != self.tools {
            println!("\nRecorded with {}; these are {tools}.", self.tools);
        }
    }
}

/// What to do about it.
pub(crate) fn advise(grown: &[String]) {
    println!("\nA message costs more than {MOST} times what is recorded, or more allocations:");
    grown.iter().for_each(|sentence| println!("- {sentence}"));
    let profile = callgrind::profile("WORKLOAD", crate::MANY);
    println!("\nWhere it comes from: callgrind_annotate {}-01", profile.display());
    println!(
        "(the caller's thread; the others are klamm's own). If it is wanted, say why in the commit that has the new record:"
    );
    println!("{BENCH} --record");
}

/// What the figures depend on beside klamm: the compiler, and what valgrind makes of the processor.
fn tools() -> String {
    let version = |program: &str| {
        let said = Command::new(program).arg("--version").output().ok();
        let said = said.and_then(|output| String::from_utf8(output.stdout).ok());
        said.map_or_else(|| format!("an unknown {program}"), |said| said.trim().to_owned())
    };
    let compiler = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    format!("{}, {}", version(&compiler), version("valgrind"))
}
