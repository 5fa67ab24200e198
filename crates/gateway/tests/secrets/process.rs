//! The binary, with secrets in its environment.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};

use super::canaries::{API_KEY, HMAC};

/// A file that is there as long as this is.
pub(crate) struct File(PathBuf);

impl File {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let name = format!("tower-fanout-canary-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
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

/// `fanout` with these arguments, and `config`.
pub(crate) fn fanout(arguments: &[&str], config: &File) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanout"));
    command.args(arguments).arg("-c").arg(config.path());
    command.env("HMAC", HMAC).env("API_KEY", API_KEY);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

/// What it says until it ends.
pub(crate) async fn said(mut command: Command) -> String {
    let output = command.output().await.unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// A gateway that serves.
pub(crate) struct Running {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    child: Child,
    log: JoinHandle<String>,
}

impl Running {
    /// Runs `config`; or what is said about it.
    pub(crate) async fn start(config: &File) -> Result<Self, String> {
        let mut child = fanout(&["run"], config).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("serving") {
            if log.read_line(&mut said).await.unwrap() == 0 {
                return Err(said);
            }
        }
        Ok(Self {
            listen: address(&said, "listen"),
            admin: address(&said, "admin"),
            child,
            log: tokio::spawn(async move {
                log.read_to_string(&mut said).await.unwrap();
                said
            }),
        })
    }

    /// Stops it; gives all that it has said.
    pub(crate) async fn stop(self) -> String {
        let pid = self.child.id().unwrap().to_string();
        let kill = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(kill.unwrap().success());
        let output = self.child.wait_with_output().await.unwrap();
        assert!(output.status.success(), "{}", output.status);
        self.log.await.unwrap() + &String::from_utf8(output.stdout).unwrap()
    }
}

/// The address of this name in a log.
fn address(log: &str, name: &str) -> SocketAddr {
    let (_, rest) = log.split_once(name).unwrap();
    let rest = rest.trim_start_matches(['"', ':', '=']);
    let end = rest.find(['"', ' ', '\n']).unwrap();
    rest[..end].parse().unwrap()
}
