//! What else this machine does with the same file, in the same run.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, ensure};

use crate::{Bench, Program, RUNS, WARM, row, run};

impl Bench {
    /// What else this machine does with the same file.
    pub(crate) fn others(&self, path: &Path) -> anyhow::Result<()> {
        let bytes = fs::metadata(path)?.len();
        let copy = self.root.join("copy.bin");
        let timed = |command: &mut Command| -> anyhow::Result<f64> {
            let mut times = Vec::new();
            for _ in 0..RUNS {
                let _fresh = fs::remove_file(&copy);
                self.warm(WARM)?;
                let start = Instant::now();
                let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
                ensure!(status.success(), "{command:?}: {status}");
                times.push(start.elapsed().as_secs_f64());
            }
            times.sort_by(f64::total_cmp);
            Ok(times[RUNS / 2])
        };
        let show = |name: &str, seconds: anyhow::Result<f64>, what: &str| match seconds {
            Ok(seconds) => row(name, bytes, seconds, 0.0, what),
            Err(error) => println!("{name:<34} not measured: {error}"),
        };
        show("cp", timed(Command::new("cp").arg(path).arg(&copy)), "no        no");
        show("b3sum, one thread", timed(Command::new("b3sum").args(["--num-threads", "1"]).arg(path)), "");
        show("b3sum", timed(Command::new("b3sum").arg(path)), "");
        match self.https(path) {
            Ok((server, url, ca)) => {
                let mut curl = Command::new("curl");
                curl.args(["-sf", "--cacert"]).arg(ca).arg("-o").arg(&copy).arg(url);
                show("curl from nginx, TLS", timed(&mut curl), "no        yes");
                drop(server);
            }
            Err(error) => println!("{:<34} not measured: {error}", "curl from nginx, TLS"),
        }
        let _gone = fs::remove_file(&copy);
        Ok(())
    }

    /// An nginx of our own with a certificate of its own, on a free port.
    pub(crate) fn https(&self, path: &Path) -> anyhow::Result<(Program, String, PathBuf)> {
        let folder = self.root.join("nginx");
        fs::create_dir_all(&folder)?;
        let (key, cert) = (folder.join("key.pem"), folder.join("cert.pem"));
        let mut openssl = Command::new("openssl");
        openssl
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "1",
            ])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&cert)
            .stderr(Stdio::null());
        run(openssl)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let shown = |path: &Path| path.display().to_string();
        let mut config = File::create(folder.join("nginx.conf"))?;
        write!(
            config,
            "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log; events {{}}\n\
             http {{ access_log off; sendfile on; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; \
             fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
             server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key}; \
             ssl_protocols TLSv1.3; root {root}; }} }}\nuser root;\n",
            dir = shown(&folder),
            cert = shown(&cert),
            key = shown(&key),
            root = shown(path.parent().context("no folder")?),
        )?;
        let child = Command::new("nginx")
            .arg("-c")
            .arg(folder.join("nginx.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = Program { child, urls: Vec::new(), folder };
        self.wait("nginx", || Ok(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()))?;
        let name = path.file_name().and_then(|name| name.to_str()).context("no name")?;
        Ok((server, format!("https://127.0.0.1:{port}/{name}"), cert))
    }
}
