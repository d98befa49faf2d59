//! `holdfast man [FOLDER]`

use std::path::PathBuf;

use clap::Args;

use super::{CommandError, Output, definition};

/// Arguments of `man`.
#[derive(Args)]
pub struct Man {
    /// Write `holdfast.1`, `holdfast-mount.1`, ... here instead of printing one page
    folder: Option<PathBuf>,
}

impl Man {
    /// Prints the manual page, or writes one per command.
    pub fn run(self) -> Result<Output, CommandError> {
        match self.folder {
            None => print_page(),
            Some(folder) => write_pages(folder),
        }
    }
}

fn print_page() -> Result<Output, CommandError> {
    let mut page = Vec::new();
    clap_mangen::Man::new(definition())
        .render(&mut page)
        .map_err(|error| CommandError::because("the manual page could not be made", error))?;
    let text = String::from_utf8_lossy(&page).into_owned();
    let json = serde_json::json!({ "page": text });
    Ok(Output::new(text, json))
}

fn write_pages(folder: PathBuf) -> Result<Output, CommandError> {
    let failed = |error| {
        CommandError::because(
            format!("the pages could not be written into {}", folder.display()),
            error,
        )
    };
    std::fs::create_dir_all(&folder).map_err(failed)?;
    clap_mangen::generate_to(definition(), &folder).map_err(failed)?;
    let json = serde_json::json!({ "folder": folder });
    Ok(Output::new(
        format!(
            "manual pages are in {}; read one with: man {}/holdfast.1",
            folder.display(),
            folder.display()
        ),
        json,
    ))
}
