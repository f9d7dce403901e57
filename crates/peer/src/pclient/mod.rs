//! The door for this machine: [`rest`], asked by programs and the page, and [`cli`], which asks it from a terminal.

pub mod cli;
pub mod rest;
