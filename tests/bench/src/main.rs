//! `holdfast-bench`: Holdfast, its peers and plain tools on the same data in the same run.
//!
//! ```text
//! arguments -> data -> rounds (every tool in turn: first, again, restore) -> mounts -> report
//! arguments --growth -> more and more files, Holdfast alone -> its own report
//! ```
//!
//! Tools take turns within a round, so that a machine that is busy for a while is busy for all of
//! them, and medians over the rounds are compared. Nothing is removed while the disk has room for another round, and
//! 361 s pass between a removal and the next one: see `scratch`. Everything lies in one temporary folder, which is
//! gone at the end, also after an error or Ctrl-C; only kill -9 of this program leaves it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

mod bucket;
mod children;
mod data;
mod drive;
mod growth;
mod growth_report;
mod mounts;
mod null_drive;
mod peer_mounts;
mod report;
mod rounds;
mod scratch;
mod tools;

use children::Children;
use scratch::Scratch;
use tools::{Found, Kind, Store};

/// Measures Holdfast against restic, rustic, borg and vykar, as far as they are on PATH.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The folder to back up [default: the sources of the libraries that cargo has unpacked]
    #[arg(long, conflicts_with = "random_mib")]
    folder: Option<PathBuf>,
    /// Back up so many MiB of random data in 8 files instead
    #[arg(long, value_name = "MIB")]
    random_mib: Option<u64>,
    /// Rounds; each runs every tool once
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Size of the big file that is copied through the mounts
    #[arg(long, default_value_t = 512, value_name = "MIB")]
    big_mib: u64,
    /// Only these tools, by name, such as `holdfast,restic`
    #[arg(long, value_delimiter = ',', value_name = "TOOL")]
    only: Vec<String>,
    /// Where the archives are; with `s3` the mounts are left out
    #[arg(long, value_enum, default_value = "folder")]
    store: Store,
    /// Leave the mounts out
    #[arg(long)]
    no_mounts: bool,
    /// Leave the tools out, and measure the mounts only
    #[arg(long, conflicts_with_all = ["no_mounts", "store"])]
    only_mounts: bool,
    /// Measure Holdfast alone, with 10,000 and 100,000 small files, one run each
    #[arg(long, conflicts_with_all = ["folder", "random_mib", "big_mib", "only", "store", "no_mounts", "only_mounts"])]
    growth: bool,
    /// Go on to so many small files, such as 1000000
    #[arg(long, value_name = "FILES", default_value_t = 100_000, requires = "growth", value_parser = clap::value_parser!(u64).range(1..))]
    growth_to: u64,
    /// Write everything that was measured to this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The holdfast to measure [default: the one beside this program]
    #[arg(long, value_name = "PROGRAM")]
    holdfast: Option<PathBuf>,
    /// Where the temporary folder is made; its disk is what is measured
    #[arg(long, value_name = "FOLDER", default_value_os_t = std::env::temp_dir())]
    scratch: PathBuf,
    #[command(subcommand)]
    helper: Option<Helper>,
}

#[derive(Subcommand)]
enum Helper {
    /// Mounts a file system that keeps names and sizes and no content, until it is unmounted
    #[command(hide = true)]
    NullDrive {
        /// An empty folder
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.helper {
        Some(Helper::NullDrive { folder }) => null_drive::serve(folder),
        None => bench(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("holdfast-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> anyhow::Result<()> {
    let holdfast = match &arguments.holdfast {
        Some(program) => program.clone(),
        None => beside_this_program()?,
    };
    if arguments.growth {
        return measure_growth(arguments, &holdfast);
    }
    let weed = match arguments.store {
        Store::Folder => None,
        Store::S3 => Some(bucket::weed()?),
    };
    let children = Children::watch_signals()?;
    let scratch = Scratch::new(&arguments.scratch)?;
    let folder = match (&arguments.folder, arguments.random_mib) {
        (Some(folder), _) => std::path::absolute(folder)?,
        (None, Some(mib)) => data::random_folder(&scratch.path("random"), mib)?,
        (None, None) => data::library_sources()?,
    };
    // Read once, so that the first tool does not pay for a cold page cache.
    let contents = data::read_through(&folder).with_context(|| folder.display().to_string())?;
    let found = tools::find(&holdfast, &arguments.only, arguments.store)?;
    let mut report =
        report::Report::new(&folder, contents, arguments.runs, arguments.store, &found);
    let Found { tools, .. } = found;
    print!("{}", report.heading());
    let of_tools = (!arguments.only_mounts).then_some(rounds::Plan {
        folder: &folder,
        contents,
        runs: arguments.runs,
        weed,
    });
    let has_mounts = !arguments.no_mounts && arguments.store == Store::Folder;
    let of_mounts = has_mounts.then_some(mounts::Plan {
        holdfast: &holdfast,
        folder: &folder,
        contents,
        runs: arguments.runs,
        big_mib: arguments.big_mib,
        tools: &tools,
    });
    // One after the other, so the larger of the two.
    let tools_bytes = of_tools.as_ref().map(|plan| plan.needed_bytes(&tools));
    let mounts_bytes = of_mounts.as_ref().map(mounts::Plan::needed_bytes);
    scratch.require_free(tools_bytes.max(mounts_bytes).unwrap_or_default())?;
    if let Some(plan) = of_tools {
        report.tools = rounds::run(&plan, &tools, &children, &scratch)?;
        print!("{}", report.tools_table());
    }
    if let Some(plan) = of_mounts {
        report.add_mounts(mounts::run(&plan, &children, &scratch)?);
        print!("{}", report.mounts_table());
    }
    write_json(arguments, &report)
}

fn measure_growth(arguments: &Arguments, holdfast: &Path) -> anyhow::Result<()> {
    let children = Children::watch_signals()?;
    let scratch = Scratch::new(&arguments.scratch)?;
    let only = [Kind::Holdfast.word().to_owned()];
    let found = tools::find(holdfast, &only, Store::Folder)?;
    let tool = found.tools.first().context("there is no holdfast")?;
    let plan = growth::Plan {
        tool,
        largest: arguments.growth_to,
    };
    scratch.require_free(plan.needed_bytes())?;
    scratch.require_inodes(plan.needed_inodes())?;
    let mut report = growth_report::GrowthReport::new(&tool.version);
    print!("{}", report.heading());
    report.growth = growth::run(&plan, &children, &scratch)?;
    print!("{}", report.table());
    write_json(arguments, &report)
}

fn write_json(arguments: &Arguments, report: &impl serde::Serialize) -> anyhow::Result<()> {
    if let Some(file) = &arguments.json {
        let json = serde_json::to_vec_pretty(report)?;
        std::fs::write(file, json).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

fn beside_this_program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("holdfast");
    anyhow::ensure!(
        program.is_file(),
        "{} is not built; run: cargo build --release -p holdfast (make bench does it)",
        program.display()
    );
    Ok(program)
}
