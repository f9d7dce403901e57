//! Files over direct connections: one to one, to many, from many, many small ones, and the memory that it takes.

use std::{
    fs::{self, File},
    io::Read,
};

use anyhow::ensure;
use serde_json::{Value, json};

use crate::{Bench, MIB, Program, RUNS, WARM, row};

const TEN_GIB: u64 = 10 << 30;

impl Bench {
    pub(crate) fn one(&self) -> anyhow::Result<()> {
        println!("\none 1 GiB file, 1 → 1              MB/s   CPU s   verified  encrypted");
        let bytes = 1024 * MIB;
        let mut rows = Vec::new();
        for round in 0..RUNS {
            let directory = self.directory()?;
            let ana = self.peer(&directory, "ana")?;
            let beto = self.peer(&directory, "beto")?;
            let (path, id) = self.sample(&ana, "one.bin", 1024)?;
            if round == 0 {
                self.others(&path)?;
            }
            self.warm(WARM)?;
            let cost = self.measured(&[&ana, &beto], || {
                let download = self.fetch(&beto, &id)?;
                self.done(&beto, &download).map(|_| ())
            })?;
            rows.push(cost);
            drop((ana, beto, directory));
            self.clear()?;
        }
        rows.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let median = &rows[RUNS / 2];
        row("trueque", bytes, median.seconds, median.cpu, "yes       yes");
        Ok(())
    }

    pub(crate) fn swarm(&self) -> anyhow::Result<()> {
        println!("\none 512 MiB file, 1 → 3 at once      MB/s in all   CPU s   origin sent × file");
        for _ in 0..RUNS {
            let directory = self.directory()?;
            let ana = self.peer(&directory, "ana")?;
            let others: Vec<Program> = ["beto", "carla", "dora"]
                .iter()
                .map(|name| self.peer(&directory, name))
                .collect::<Result<_, _>>()?;
            let (_, id) = self.sample(&ana, "swarm.bin", 512)?;
            let everybody: Vec<&Program> = others.iter().chain([&ana]).collect();
            let mut from_origin = 0;
            self.warm(WARM)?;
            let cost = self.measured(&everybody, || {
                let ids: Vec<String> =
                    others.iter().map(|peer| self.fetch(peer, &id)).collect::<Result<_, _>>()?;
                for (peer, download) in others.iter().zip(&ids) {
                    let done = self.done(peer, download)?;
                    let sources = done["sources"].as_array().cloned().unwrap_or_default();
                    let origin = sources.iter().filter(|source| source["username"] == "ana");
                    from_origin += origin.filter_map(|source| source["bytes"].as_u64()).sum::<u64>();
                }
                Ok(())
            })?;
            let bytes = 3 * 512 * MIB;
            println!(
                "trueque                              {:>8.0}   {:>8.1}   {:>8.2}",
                bytes as f64 / 1e6 / cost.seconds,
                cost.cpu,
                from_origin as f64 / (512 * MIB) as f64
            );
            drop((others, ana, directory));
            self.clear()?;
        }
        Ok(())
    }

    pub(crate) fn three(&self) -> anyhow::Result<()> {
        println!("\none 1 GiB file from 3 sources        MB/s   CPU s");
        for _ in 0..RUNS {
            let directory = self.directory()?;
            let names = ["ana", "beto", "carla"];
            let sources: Vec<Program> =
                names.iter().map(|name| self.peer(&directory, name)).collect::<Result<_, _>>()?;
            let (path, id) = self.sample(&sources[0], "three.bin", 1024)?;
            for source in &sources[1..] {
                fs::copy(&path, source.folder.join("share/three.bin"))?;
                self.announced(source, 1)?;
            }
            let dora = self.peer(&directory, "dora")?;
            let everybody: Vec<&Program> = sources.iter().chain([&dora]).collect();
            let mut done = Value::Null;
            self.warm(WARM)?;
            let cost = self.measured(&everybody, || {
                let download = self.fetch(&dora, &id)?;
                done = self.done(&dora, &download)?;
                Ok(())
            })?;
            let shares: Vec<u64> = done["sources"]
                .as_array()
                .map(|all| {
                    all.iter().filter_map(|source| source["bytes"].as_u64()).map(|b| b / MIB).collect()
                })
                .unwrap_or_default();
            row("trueque", 1024 * MIB, cost.seconds, cost.cpu, &format!("{shares:?} MiB"));
            drop((sources, dora, directory));
            self.clear()?;
        }
        Ok(())
    }

    pub(crate) fn small(&self) -> anyhow::Result<()> {
        println!("\n5,000 files of 16 KiB, 1 → 1         files/s   CPU s");
        for _ in 0..RUNS {
            let directory = self.directory()?;
            let ana = self.peer(&directory, "ana")?;
            let beto = self.peer(&directory, "beto")?;
            let folder = ana.folder.join("share/small");
            fs::create_dir_all(&folder)?;
            let mut random = File::open("/dev/urandom")?;
            let mut bytes = vec![0; 16 << 10];
            for number in 0..5000 {
                random.read_exact(&mut bytes)?;
                fs::write(folder.join(format!("file {number:05}.bin")), &bytes)?;
            }
            self.announced(&ana, 5000)?;
            let mut wanted = Vec::new();
            let mut cursor = String::new();
            loop {
                let page = self.get(&ana, &format!("/v1/files?limit=200{cursor}"))?;
                let items = page["items"].as_array().cloned().unwrap_or_default();
                wanted.extend(items.iter().map(|item| json!({ "content_id": item["content_id"] })));
                match page["next_cursor"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => break,
                }
            }
            self.warm(WARM)?;
            let cost = self.measured(&[&ana, &beto], || {
                for batch in wanted.chunks(1000) {
                    let body = json!({ "downloads": batch });
                    self.call("POST", format!("{}/v1/downloads/batch", beto.pclient()), Some(body))?;
                }
                self.wait("small files", || {
                    let open = ["queued", "running", "waiting", "finishing"].map(|state| {
                        self.get(&beto, &format!("/v1/downloads?limit=1&state={state}"))
                            .is_ok_and(|page| page["items"].as_array().is_some_and(Vec::is_empty))
                    });
                    Ok(open.iter().all(|none| *none))
                })
            })?;
            let here = fs::read_dir(beto.folder.join("downloads/small"))?.count();
            ensure!(here == 5000, "{here} files arrived");
            println!(
                "trueque                              {:>7.0}   {:>5.1}",
                5000.0 / cost.seconds,
                cost.cpu
            );
            drop((ana, beto, directory));
            self.clear()?;
        }
        Ok(())
    }

    pub(crate) fn memory(&self) -> anyhow::Result<()> {
        println!(
            "\nresident MiB while 10 GiB move       sender   receiver   (every GiB; the most of all at the end)"
        );
        let directory = self.directory()?;
        let ana = self.peer(&directory, "ana")?;
        let beto = self.peer(&directory, "beto")?;
        self.ten_gibibytes(&ana, &beto, || Ok(String::new()))?;
        drop((ana, beto, directory));
        self.clear()
    }

    /// One file of 10 GiB from one to the other. It is a hole, so that only one of the two needs the RAM for it.
    pub(crate) fn ten_gibibytes(
        &self,
        from: &Program,
        to: &Program,
        beside: impl Fn() -> anyhow::Result<String>,
    ) -> anyhow::Result<()> {
        let half = from.folder.join("half.bin");
        File::create(&half)?.set_len(TEN_GIB)?;
        fs::rename(half, from.folder.join("share/ten.bin"))?;
        let id = self.shared(from, "ten.bin")?;
        let download = self.fetch(to, &id)?;
        let mut next = 0;
        let seen = |what: &str, note: &str| -> anyhow::Result<()> {
            println!("trueque{note:<29} {:>7} {:>10}   {}", from.memory(what)?, to.memory(what)?, beside()?);
            Ok(())
        };
        self.wait("10 GiB", || {
            let now = self.get(to, &format!("/v1/downloads/{download}"))?;
            if now["verified_bytes"].as_u64() >= Some(next) {
                seen("VmRSS", "")?;
                next += 1024 * MIB;
            }
            Ok(now["state"] == "done")
        })?;
        seen("VmHWM", ", at most")
    }
}
