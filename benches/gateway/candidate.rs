//! A measured program in a process of its own.

use std::{
    ffi::OsString,
    fs,
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The way in which a candidate is started.
#[derive(Clone, Copy)]
pub(crate) enum Mode<'m> {
    /// On any processor.
    Free,
    /// On processor 0.
    Pinned,
    /// Under callgrind, which writes its files to this folder.
    Callgrind(&'m Path),
}

impl Mode<'_> {
    /// Returns the words of the command line before the program.
    fn prefix(self) -> Vec<OsString> {
        let Self::Callgrind(folder) = self else {
            let pinned = matches!(self, Self::Pinned).then_some(["taskset", "-c", "0"]);
            return pinned.into_iter().flatten().map(Into::into).collect();
        };
        let words = [
            "valgrind",
            "-q",
            "--tool=callgrind",
            "--collect-systime=nsec",
            // The same caches on each machine: a first level of 32 KiB for code and one for data, and a second one.
            "--cache-sim=yes",
            "--I1=32768,8,64",
            "--D1=32768,8,64",
            "--LL=524288,8,64",
        ];
        let files = [("--callgrind-out-file=", "out"), ("--vgdb-prefix=", "vgdb")];
        let files = files.map(|(option, file)| {
            let mut word = OsString::from(option);
            word.push(folder.join(file));
            word
        });
        words.map(Into::into).into_iter().chain(files).collect()
    }
}

/// A running candidate, which is killed on drop.
pub(crate) struct Candidate {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Candidate {
    /// Starts a program and waits for the line of its standard error that has its address.
    pub(crate) fn start(
        mode: Mode<'_>,
        program: &Path,
        arguments: &[OsString],
    ) -> io::Result<Self> {
        let mut words = mode.prefix();
        words.push(program.into());
        words.extend_from_slice(arguments);
        let mut process = Command::new(&words[0])
            .args(&words[1..])
            .env("TOKIO_WORKER_THREADS", "1")
            // The gateway would report this variable of `.ci/run` as an unknown override.
            .env_remove("FANOUT_REQUIRE_ALL")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut log = BufReader::new(process.stderr.take().expect("the error output is a pipe"));
        let (mut line, mut logged) = (String::new(), String::new());
        while log.read_line(&mut line)? > 0 {
            if let Some(address) = listen(&line) {
                // Reads on, because a full pipe would hold the candidate up.
                thread::spawn(move || io::copy(&mut log, &mut io::sink()));
                return Ok(Self { process, address });
            }
            logged += &line;
            line.clear();
        }
        let program = program.display();
        Err(io::Error::other(format!(
            "{program} did not start:\n{logged}"
        )))
    }

    /// Stops the program by SIGTERM, and waits until it has ended.
    pub(crate) fn stop(mut self) -> io::Result<()> {
        let process = self.pid().try_into().map_err(io::Error::other)?;
        kill(Pid::from_raw(process), Signal::SIGTERM)?;
        let status = self.process.wait()?;
        status
            .success()
            .then_some(())
            .ok_or_else(|| io::Error::other(format!("the program has ended with {status}")))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Returns the processor time that all threads have used.
    pub(crate) fn cpu_time(&self) -> io::Result<Duration> {
        let mut time = Duration::ZERO;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let times = fs::read_to_string(task?.path().join("schedstat"))?;
            let running = times.split(' ').next().and_then(|time| time.parse().ok());
            let running = running.ok_or_else(|| io::Error::other("schedstat has no time"))?;
            time += Duration::from_nanos(running);
        }
        Ok(time)
    }

    /// Returns the resident memory in KiB.
    pub(crate) fn memory(&self) -> io::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let size = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let size = size.and_then(|size| size.trim().strip_suffix(" kB")?.parse().ok());
        size.ok_or_else(|| io::Error::other("the status has no VmRSS"))
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the address in the field `listen` of a log line, if the line has one.
pub(crate) fn listen(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("\"listen\":\"")?;
    rest.split('"').next()?.parse().ok()
}

/// Returns `true` if `program` is in a folder of `PATH`.
pub(crate) fn on_path(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

/// Pins this process to processor 1, which its children inherit. Returns `false` if that is not possible.
pub(crate) fn pin() -> io::Result<bool> {
    if !on_path("taskset") {
        return Ok(false);
    }
    let process = std::process::id().to_string();
    let output = Command::new("taskset")
        .args(["-acp", "1", &process])
        .output()?;
    Ok(output.status.success())
}
