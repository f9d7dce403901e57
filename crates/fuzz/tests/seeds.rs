//! Runs every target over its seeds, without libFuzzer: what was found once stays mended, and no target rots.

#![expect(clippy::unwrap_used, reason = "a test: what it does not expect ends it")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    entries.map(|entry| name(entry).trim_end_matches(".rs").to_owned()).collect()
}

/// One test for all of them: what they take of memory is counted for the whole process.
#[test]
fn no_seed_breaks_a_promise() {
    for (target, run) in fuzz::TARGETS {
        let folder = here("seeds").join(target);
        let seeds = names_in(&folder);
        assert!(seeds.len() >= 4, "{target} has {} seeds", seeds.len());
        for seed in seeds {
            eprintln!("{target}/{seed}");
            let path = folder.join(seed);
            #[expect(clippy::disallowed_methods, reason = "a seed of this repository")]
            let data = fs::read(&path).unwrap();
            assert!(data.len() <= 16 << 10, "{} is no small seed", path.display());
            run(&data);
        }
    }
}

#[test]
fn every_target_has_its_seeds_and_its_program() {
    let targets: BTreeSet<String> = fuzz::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(targets.len(), fuzz::TARGETS.len(), "no name is there twice");
    assert_eq!(names_in(&here("seeds")), targets);
    assert_eq!(names_in(&here("libfuzzer/fuzz_targets")), targets);
    let manifest = fs::read_to_string(here("libfuzzer/Cargo.toml")).unwrap();
    for target in targets {
        let program =
            fs::read_to_string(here("libfuzzer/fuzz_targets").join(format!("{target}.rs"))).unwrap();
        assert!(program.contains(&format!("fuzz::run(\"{target}\", data)")), "{program}");
        assert!(manifest.contains(&format!("name = \"{target}\"\n")), "{target} is not in the manifest");
    }
}
