//! The door for this machine: [`rest`], asked by programs, by the [`page`] in a browser, and by [`cli`] in a terminal.

pub mod cli;
mod page;
pub mod rest;
