//! Runs the binary with a configuration file and reads its log line by line.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};

/// A temporary file that is removed on drop.
pub(crate) struct File(PathBuf);

impl File {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        static FILES: AtomicUsize = AtomicUsize::new(0);
        let (process, file) = (std::process::id(), FILES.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("tower-fanout-{process}-{file}-{name}"));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A temporary folder that is removed on drop.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tower-fanout-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }

    /// Returns the path of a file in the folder, as an argument of a program.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Returns the command `fanout`. Its process is killed on drop.
pub(crate) fn fanout(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanout"));
    // A variable of the tests themselves would be reported as an unknown override.
    command.env_remove("FANOUT_REQUIRE_ALL");
    command.args(arguments).kill_on_drop(true);
    command
}

/// Returns the command `fanout` with this configuration file.
pub(crate) fn fanout_with(arguments: &[&str], config: &File) -> Command {
    let mut command = fanout(arguments);
    command.arg("-c").arg(config.path());
    command
}

/// A process of `fanout run` that accepts connections.
pub(crate) struct Server {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    child: Child,
    log: UnboundedReceiver<String>,
    logged: String,
}

impl Server {
    /// Spawns `command` and waits until it accepts connections.
    ///
    /// # Errors
    /// Returns the log if the process ends before that.
    pub(crate) async fn start(mut command: Command) -> Result<Self, String> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, mut log) = unbounded_channel();
        // Reads continuously, because the process drops lines while its pipe and its queue are full.
        tokio::spawn(async move {
            while let Some(line) = lines.next_line().await.unwrap() {
                let _ = sender.send(line);
            }
        });
        let mut logged = String::new();
        while let Some(line) = log.recv().await {
            logged += &format!("{line}\n");
            if line.contains("serving") {
                return Ok(Self {
                    listen: address(&line, "listen"),
                    admin: address(&line, "admin"),
                    child,
                    log,
                    logged,
                });
            }
        }
        Err(logged)
    }

    /// Waits for the next line of the log.
    pub(crate) async fn line(&mut self) -> String {
        let line = self.log.recv().await.expect("the process is running");
        self.logged += &format!("{line}\n");
        line
    }

    /// Returns the id of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Sends a signal by its name without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Stops the process with SIGTERM. Returns its complete output.
    pub(crate) async fn stop(mut self) -> String {
        self.signal("TERM");
        let output = self.child.wait_with_output().await.unwrap();
        assert!(output.status.success(), "{}", output.status);
        while let Some(line) = self.log.recv().await {
            self.logged += &format!("{line}\n");
        }
        self.logged + &String::from_utf8(output.stdout).unwrap()
    }
}

/// Starts a gateway with this configuration. Returns its public address.
pub(crate) async fn start_server(text: &str) -> (SocketAddr, Server) {
    let file = File::new("gateway.yaml", text);
    let server = Server::start(fanout_with(&["run"], &file)).await;
    let server = server.unwrap_or_else(|log| panic!("{log}"));
    (server.listen, server)
}

/// Sends a signal by its name without `SIG`.
pub(crate) fn signal(child: &Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    let kill = std::process::Command::new("kill")
        .args([&format!("-{name}"), &pid])
        .status();
    assert!(kill.unwrap().success());
}

/// Returns the address in the field `name` of a log line.
pub(crate) fn address(line: &str, name: &str) -> SocketAddr {
    let (_, rest) = line.split_once(name).unwrap();
    let rest = rest.trim_start_matches(['"', ':', '=']);
    let end = rest.find(['"', ' ', '\n', ',']).unwrap_or(rest.len());
    rest[..end].parse().unwrap()
}
