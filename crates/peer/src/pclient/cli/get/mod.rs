//! `peer get`: fetches files, shows how it goes, and ends when they are whole.
//!
//! The downloads belong to the peer, not to this command: ctrl-c pauses them, and asking again goes on where they stood.
//! What an argument names is found first ([`find`]); one file is followed by itself ([`one`]), more of them together
//! ([`many`]).

mod find;
mod many;
mod one;
mod output;

use std::{collections::HashSet, path::Path};

use content::ContentId;

use self::find::Found;
use super::{Exit, GetArgs, Stop, api::Api, screen::Screen};

/// A file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    id: ContentId,
    /// As its holders call it; none where it was asked for by its id.
    name: Option<String>,
}

pub(super) async fn get(api: &Api, args: GetArgs, screen: &mut Screen) -> Result<(), Stop> {
    let GetArgs { what, output, .. } = args;
    let output = output.as_deref();
    let mut found = Vec::with_capacity(what.len());
    for what in &what {
        found.push(find::find(api, what, screen).await?);
    }
    if let [Found::File(file)] = found.as_slice() {
        return one::get(api, file, output, screen).await;
    }
    if let Some(output) = output.filter(|output| *output == Path::new("-") || !output.is_dir()) {
        let why = format!("-o {}: several files go into a folder that is there", output.display());
        return Err(Stop::new(Exit::Usage, why));
    }
    many::get(api, found, output, screen).await
}

/// Without those whose bytes another one has: a peer keeps them once. How many there were.
fn without_twins(files: Vec<Wanted>) -> (Vec<Wanted>, usize) {
    let all = files.len();
    let mut seen = HashSet::with_capacity(all);
    let files: Vec<Wanted> = files.into_iter().filter(|file| seen.insert(file.id)).collect();
    let twins = all - files.len();
    (files, twins)
}
