//! Configurations of several files, and the files that they name.
#![allow(missing_docs)]

mod common;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use common::*;
use http::{Method, StatusCode};

/// A temporary folder, removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let name = format!("fanout-folder-{test}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file, and the folders that it is in.
    fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Links files as a volume of a Kubernetes ConfigMap does: each is a link into `..data`, which is a link to the folder
    /// of the current version.
    fn publish(&self, version: &str, files: &[(&str, &str)]) {
        for (name, text) in files {
            self.write(&format!("..{version}/{name}"), text);
            if !self.0.join(name).exists() {
                symlink(Path::new("..data").join(name), self.0.join(name)).unwrap();
            }
        }
        symlink(format!("..{version}"), self.0.join("..new")).unwrap();
        fs::rename(self.0.join("..new"), self.0.join("..data")).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs `fanout` with these arguments in the root folder. Returns exit code, standard output and standard error.
async fn run(arguments: &[&str], config: &Path) -> (Option<i32>, String, String) {
    let mut command = fanout(arguments);
    let output = command.arg("-c").arg(config).current_dir("/").output();
    let output = output.await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

const SERVER: &str =
    "server: { listen: \"127.0.0.1:0\", admin: \"127.0.0.1:0\", drain: { delay: 0s } }\n";
const AUTH: &str = "version: 1
auth: { jwt: { main: { keys: [{ secret_file: jwt.key }], issuers: [me], audiences: [you], algorithms: [HS256] } } }
tiers: { free: {} }
";
const OLD: &str = "0123456789abcdef0123456789abcdef";
const NEW: &str = "fedcba9876543210fedcba9876543210";

fn routes(up: &str) -> String {
    format!(
        "downstreams: {{ up: {{ endpoints: [{{ url: \"{up}\" }}] }} }}
routes: [{{ name: page, match: {{ path: /page }}, auth: {{ jwt: main }}, plan: {{ up: {{ downstream: up, required: true, request: {{ path: / }} }} }} }}]
"
    )
}

#[tokio::test]
async fn fault_j49_serves_the_files_of_a_config_map() {
    let (up, _) = stub(quick).await;
    let folder = Folder::new("map");
    let routes = routes(&format!("http://{up}"));
    let files = [
        ("a.yaml", AUTH),
        ("b.yml", SERVER),
        ("c.json", "{}"),
        ("routes.yaml", &routes),
    ];
    folder.publish("1", &[&files[..], &[("jwt.key", OLD)]].concat());

    let (code, text, _) = run(&["check"], &folder.0).await;
    assert_eq!(
        (code, text),
        (Some(0), format!("{}: no problems\n", folder.0.display()))
    );
    let (code, text, _) = run(&["explain", "--route", "page"], &folder.0).await;
    assert!(code == Some(0) && text.contains("up"), "{text}");

    let mut command = fanout(&["run", "-c"]);
    command.arg(&folder.0).current_dir("/");
    let mut server = Server::start(command).await.unwrap();
    let gateway = Gateway::at(server.listen);
    let token = async || {
        run(&["token", "--sub", "ada", "--tier", "free"], &folder.0)
            .await
            .1
    };
    let status = async |token: &str| {
        let headers = [("authorization", format!("Bearer {}", token.trim()))];
        gateway
            .send(Method::GET, "/page", &headers, "")
            .await
            .status
    };
    let old = token().await;
    assert_eq!(status(&old).await, StatusCode::OK);

    // The new version of the volume applies at SIGHUP, because the paths lead through the link.
    folder.publish("2", &[&files[..], &[("jwt.key", NEW)]].concat());
    server.signal("HUP");
    while !server.line().await.contains("keys reloaded") {}
    assert_eq!(status(&old).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&token().await).await, StatusCode::OK);
}

#[tokio::test]
async fn fault_j49_reports_each_mistake_in_its_file() {
    let folder = Folder::new("mistakes");
    folder.write("a.yaml", AUTH);
    folder.write("b.yaml", &routes("http://127.0.0.1:9"));
    folder.write("c.yaml", "tiers: { free: {} }\n");
    folder.write("jwt.key", OLD);
    let (code, text, _) = run(&["check", "--format", "json"], &folder.0).await;
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    let file = |name: &str| folder.0.join(name).to_str().unwrap().to_owned();
    assert_eq!(code, Some(1));
    assert_eq!(
        (
            &found[0]["file"],
            &found[0]["first"]["file"],
            &found[0]["first"]["line"]
        ),
        (&file("c.yaml").into(), &file("a.yaml").into(), &3.into()),
        "{text}"
    );
    let (_, text, _) = run(&["check", "--format", "sarif"], &folder.0).await;
    let log: serde_json::Value = serde_json::from_str(&text).unwrap();
    let first = &log["runs"][0]["results"][0]["relatedLocations"][0];
    assert_eq!(
        first["physicalLocation"]["region"]["startLine"], 3,
        "{text}"
    );

    let (code, _, error) = run(&["run"], &folder.0).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("duplicate key \"free\""), "{error}");
}

#[tokio::test]
async fn fault_j49_reports_a_folder_without_configuration() {
    let folder = Folder::new("empty");
    folder.write("README.md", "");
    folder.write("more/fanout.yaml", "version: 1");
    let (code, text, _) = run(&["check"], &folder.0).await;
    assert_eq!(code, Some(1));
    assert!(
        text.contains("expected a file that ends in .yaml, .yml or .json"),
        "{text}"
    );

    symlink("gone.yaml", folder.0.join("link.yaml")).unwrap();
    let (code, text, _) = run(&["check"], &folder.0).await;
    assert_eq!(code, Some(1));
    assert!(
        text.contains("cannot read \"") && text.contains("link.yaml\": no such file"),
        "{text}"
    );
}

#[tokio::test]
async fn fault_j50_paths_are_relative_to_the_file_that_names_them() {
    let folder = Folder::new("paths");
    let text =
        format!("{AUTH}{}", routes("http://127.0.0.1:9")).replace("jwt.key", "../keys/jwt.key");
    folder.write("conf/fanout.yaml", &text);
    let config = folder.0.join("conf/fanout.yaml");
    let (code, text, _) = run(&["check"], &config).await;
    assert_eq!(code, Some(1));
    let path = folder.0.join("conf/../keys/jwt.key");
    let help = format!(
        "the path is relative to the configuration file: {}",
        path.display()
    );
    assert!(text.contains(&help), "{text}");

    folder.write("keys/jwt.key", OLD);
    let (code, text, _) = run(&["check"], &config).await;
    assert_eq!(code, Some(0), "{text}");
    // A relative path of the configuration itself is relative to the working directory.
    let mut command = fanout(&["check", "-c", "fanout.yaml"]);
    let output = command.current_dir(folder.0.join("conf")).output().await;
    assert_eq!(output.unwrap().status.code(), Some(0));
}
