//! A client of `yaml-language-server`, as an editor is one.

use std::{path::Path, process::Stdio};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// A running language server. Its process is killed on drop.
pub(crate) struct LanguageServer {
    _child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    requests: u64,
}

impl LanguageServer {
    /// Starts `program`.
    pub(crate) async fn start(program: &Path) -> Self {
        let mut command = Command::new(program);
        command
            .arg("--stdio")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let stdout = BufReader::new(stdout);
        let mut server = Self {
            _child: child,
            stdin,
            stdout,
            requests: 0,
        };
        let markdown = json!({ "hover": { "contentFormat": ["markdown"] } });
        let editor = json!({ "processId": null, "rootUri": null, "capabilities": { "textDocument": markdown } });
        server.request("initialize", editor).await;
        server.notify("initialized", json!({})).await;
        server
    }

    /// Opens a file, and returns its diagnostics.
    pub(crate) async fn open(&mut self, uri: &str, text: &str) -> Vec<Value> {
        let document = json!({ "uri": uri, "languageId": "yaml", "version": 1, "text": text });
        self.notify("textDocument/didOpen", json!({ "textDocument": document }))
            .await;
        loop {
            let message = self.receive().await;
            if message["method"] == "textDocument/publishDiagnostics"
                && message["params"]["uri"] == uri
            {
                return message["params"]["diagnostics"].as_array().unwrap().clone();
            }
        }
    }

    /// Sends a request about a position in a file, and returns the result.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        uri: &str,
        (line, character): (usize, usize),
    ) -> Value {
        let position = json!({ "line": line, "character": character });
        let params = json!({ "textDocument": { "uri": uri }, "position": position });
        self.request(&format!("textDocument/{method}"), params)
            .await
    }

    async fn request(&mut self, method: &str, params: Value) -> Value {
        self.requests += 1;
        let id = self.requests;
        self.send(json!({ "id": id, "method": method, "params": params }))
            .await;
        loop {
            let mut message = self.receive().await;
            if message["id"] == id && message.get("method").is_none() {
                return message["result"].take();
            }
        }
    }

    async fn notify(&mut self, method: &str, params: Value) {
        self.send(json!({ "method": method, "params": params }))
            .await;
    }

    async fn send(&mut self, mut message: Value) {
        message["jsonrpc"] = "2.0".into();
        let text = message.to_string();
        let framed = format!("content-length: {}\r\n\r\n{text}", text.len());
        self.stdin.write_all(framed.as_bytes()).await.unwrap();
    }

    /// Receives a message, and answers those that ask for the settings of the editor.
    async fn receive(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.stdout.read_line(&mut line).await.unwrap();
            assert!(!line.is_empty(), "the language server has ended");
            match line.trim().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().unwrap()
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut text = vec![0; length];
        self.stdout.read_exact(&mut text).await.unwrap();
        let message: Value = serde_json::from_slice(&text).unwrap();
        if let (Some(_), Some(id)) = (message.get("method"), message.get("id")) {
            // Only the schema that a file names is used, and none of the network.
            let settings = message["params"]["items"]
                .as_array()
                .map(|items| vec![json!({ "schemaStore": { "enable": false } }); items.len()]);
            self.send(json!({ "id": id, "result": settings })).await;
        }
        message
    }
}
