//! What a packager asks for: completions and manual pages, made from the command line itself.

use clap_mangen::Man;

use super::{CompletionsArgs, ManArgs, Stop, screen::Screen};
use crate::config::Cli;

pub(super) fn completions(args: &CompletionsArgs, screen: &mut Screen) -> Result<(), Stop> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::documented(), "peer", &mut script);
    Ok(screen.out().write_all(&script)?)
}

pub(super) fn pages(args: &ManArgs, screen: &mut Screen) -> Result<(), Stop> {
    let mut command = Cli::documented();
    let Some(folder) = &args.folder else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        return Ok(screen.out().write_all(&page)?);
    };
    command = without_help(command);
    command.build();
    clap_mangen::generate_to(command, folder)
        .map_err(|error| Stop::failed(format!("{}: {error}", folder.display())))?;
    Ok(())
}

/// Without the word `help` and what stands below it: the pages are the help.
fn without_help(command: clap::Command) -> clap::Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}
