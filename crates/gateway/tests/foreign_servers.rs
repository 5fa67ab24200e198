//! Third-party downstreams: nginx and Python's `http.server`, which serve JSON files.
#![allow(missing_docs)]

mod common;

use std::{net::SocketAddr, path::Path, process::Stdio};

use common::*;
use http::StatusCode;
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::timeout,
};

/// Returns the address of a port that is free at the moment.
async fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}

/// Starts `command` and waits until it accepts connections.
async fn start(command: &mut Command, addr: SocketAddr) -> Child {
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let up = async {
        while TcpStream::connect(addr).await.is_err() {
            assert!(child.try_wait().unwrap().is_none(), "the server exited");
            tokio::task::yield_now().await;
        }
    };
    timeout(ms(20_000), up)
        .await
        .expect("the server accepts connections");
    child
}

async fn nginx(program: &Path, folder: &Folder) -> (SocketAddr, Child) {
    let addr = free_port().await;
    let root = folder.0.display();
    folder.write("nginx.conf", &format!(
        "daemon off; master_process off; pid {root}/nginx.pid; error_log {root}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  types {{ application/json json; }}
  server {{ listen {addr}; root {root}; }}
}}"
    ));
    let mut command = Command::new(program);
    command
        .arg("-p")
        .arg(&folder.0)
        .arg("-c")
        .arg(folder.0.join("nginx.conf"))
        .arg("-e")
        .arg(folder.0.join("error.log"));
    (addr, start(&mut command, addr).await)
}

async fn python(program: &Path, folder: &Folder) -> (SocketAddr, Child) {
    let addr = free_port().await;
    let mut command = Command::new(program);
    command
        .args([
            "-m",
            "http.server",
            "--bind",
            "127.0.0.1",
            &addr.port().to_string(),
        ])
        .current_dir(&folder.0);
    (addr, start(&mut command, addr).await)
}

#[tokio::test]
async fn merges_nginx_and_python_until_one_of_them_dies() {
    let (Some(nginx_path), Some(python_path)) = (program("nginx"), program("python3")) else {
        return;
    };
    let (web, files) = (Folder::new("nginx"), Folder::new("python"));
    web.write(
        "profile.json",
        "{\"id\": 7, \"name\": \"Ada\", \"balance\": 10000000000000000000001}",
    );
    files.write("orders-7.json", "{ \"orders\" : [ 1.10, 2e3 ] }\n");
    let (nginx, _nginx) = nginx(&nginx_path, &web).await;
    let (python, mut child) = python(&python_path, &files).await;
    let plan = "    profile: { downstream: nginx, request: { path: /profile.json } }
    orders: { downstream: python, depends_on: [profile], request: { path: \"/orders-{profile.id}.json\" } }
    absent: { downstream: nginx, request: { path: /absent.json }, response: { accept: [404] } }
";
    let gateway = Gateway::start(&[("nginx", nginx), ("python", python)], plan, "").await;

    let answer = gateway.ask(json!({})).await;
    assert_eq!(
        (answer.status, answer.at("/meta/completed")),
        (StatusCode::OK, json!(true)),
        "{}",
        answer.text
    );
    assert!(
        answer
            .text
            .contains("{\"id\": 7, \"name\": \"Ada\", \"balance\": 10000000000000000000001}")
    );
    assert!(
        answer.text.contains("{ \"orders\" : [ 1.10, 2e3 ] }"),
        "the body is unchanged byte for byte"
    );
    assert_eq!(answer.service("absent", "/data"), json!(null));

    child.kill().await.unwrap();
    let answer = gateway.ask(json!({"retryAttempts": 1})).await;
    assert_eq!(
        (answer.status, answer.at("/meta/completed")),
        (StatusCode::OK, json!(false))
    );
    assert_eq!(answer.service("profile", "/status"), "success");
    assert_eq!(answer.service("orders", "/status"), "failed");
    assert_eq!(answer.service("orders", "/error/kind"), "connect_refused");

    let answer = gateway
        .ask(json!({"retryAttempts": 0, "aggregationStrategy": "all"}))
        .await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{}", answer.text);
    assert_eq!(answer.service("orders", "/status"), "failed");
}

/// Returns the code block of the README that begins with `fence` and `first`.
fn readme(fence: &str, first: &str) -> &'static str {
    let text = include_str!("../../../README.md");
    let start = format!("```{fence}\n{first}");
    let (_, rest) = text.split_once(&start).unwrap();
    let block = &text[text.len() - rest.len() - first.len()..];
    block.split_once("```").unwrap().0
}

#[tokio::test]
async fn fault_e24_the_sample_route_of_the_readme_runs_as_it_is() {
    let Some(python) = program("python3") else {
        return;
    };
    let ports = [free_port().await, free_port().await].map(|addr| addr.port().to_string());
    // Other tests may use the ports of the sample.
    let free = |text: &str| text.replace("9001", &ports[0]).replace("9002", &ports[1]);
    let config = free(readme("yaml", "version: 1\nserver:"))
        .replace("127.0.0.1:8080", "127.0.0.1:0")
        .replace("127.0.0.1:9901", "127.0.0.1:0");
    let folder = Folder::new("readme");
    folder.write("services.py", &free(readme("python", "from http.server")));
    let addr = SocketAddr::from(([127, 0, 0, 1], ports[1].parse().unwrap()));
    let mut services = Command::new(python);
    services.arg(folder.0.join("services.py"));
    let _services = start(&mut services, addr).await;

    let run = |arguments: &[&str], file: &File| {
        let mut command = fanout_with(arguments, file);
        command.env("JWT_SECRET", "a secret for the sample, long enough");
        command
    };
    let file = File::new("page.yaml", &config);
    let checked = run(&["check"], &file).output().await.unwrap();
    let text = String::from_utf8(checked.stdout).unwrap();
    assert!(
        checked.status.success() && text.contains("no problems"),
        "{text}"
    );
    // The times of the sample are short for a machine that runs many tests at once.
    let patient = config
        .replace("attempt_timeout: 300ms", "attempt_timeout: 2s")
        .replace("grace: 50ms", "grace: 2s");
    let file = File::new("page.yaml", &patient);
    let token = run(&["token", "--sub", "ada", "--tier", "default"], &file);
    let token = { token }.output().await.unwrap();
    let token = String::from_utf8(token.stdout).unwrap();
    let server = Server::start(run(&["run"], &file)).await.unwrap();
    let gateway = Gateway::at(server.listen);
    let headers = [("authorization", format!("Bearer {}", token.trim()))];
    let answer = gateway
        .send(http::Method::GET, "/pages/7", &headers, "")
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let merged = json!({"id": 7, "account": "a-7", "items": ["tea"]});
    assert_eq!(answer.at("/data/merged"), merged);
    server.stop().await;
}
