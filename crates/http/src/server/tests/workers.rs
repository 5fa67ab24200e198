//! Tests of servers whose connections are served by workers.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, mpsc},
    thread,
};

use super::*;

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

/// A running server with two workers, which responds with the name of the thread.
struct Two {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<ShutdownOutcome>,
    /// Lets a request for `/wait` end, which blocks its thread.
    go_on: mpsc::Sender<()>,
}

async fn two() -> Two {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (go_on, wait) = mpsc::channel();
    let wait = Arc::new(Mutex::new(wait));
    let service = service_fn(move |request: Request<Incoming>| {
        let wait = Arc::clone(&wait);
        async move {
            if request.uri().path() == "/wait" {
                wait.lock().unwrap().recv().unwrap();
            }
            let name = format!("<{}>", thread::current().name().unwrap());
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(name))))
        }
    });
    let (stop, stopped) = oneshot::channel();
    let workers = Workers::start(NonZeroUsize::new(2).unwrap()).unwrap();
    let server = Server::default().workers(workers);
    let stopped = async { drop(stopped.await) };
    let served = tokio::spawn(server.serve(listener, service, stopped));
    Two {
        addr,
        stop,
        served,
        go_on,
    }
}

async fn send(stream: &mut TcpStream, request: &str) {
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// Reads a response and returns its body.
async fn receive(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b">") {
        assert!(stream.read_buf(&mut text).await.unwrap() > 0);
    }
    let text = String::from_utf8(text).unwrap();
    text.split_once('<')
        .unwrap()
        .1
        .trim_end_matches('>')
        .to_owned()
}

#[tokio::test]
async fn a_connection_stays_on_the_worker_that_had_the_fewest() {
    let two = two().await;
    let (mut streams, mut names) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let mut stream = TcpStream::connect(two.addr).await.unwrap();
        send(&mut stream, GET).await;
        names.push(receive(&mut stream).await);
        streams.push(stream);
    }
    assert_eq!(names, ["worker-0", "worker-1", "worker-0", "worker-1"]);
    for (stream, name) in streams.iter_mut().zip(&names) {
        send(stream, GET).await;
        assert_eq!(receive(stream).await, *name);
    }
}

#[tokio::test]
async fn a_busy_worker_holds_up_only_its_own_connections() {
    let two = two().await;
    let mut busy = TcpStream::connect(two.addr).await.unwrap();
    send(&mut busy, "GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut other = TcpStream::connect(two.addr).await.unwrap();
    for _ in 0..3 {
        send(&mut other, GET).await;
        assert_eq!(receive(&mut other).await, "worker-1");
    }

    // The response is complete before the server ends.
    two.stop.send(()).unwrap();
    two.go_on.send(()).unwrap();
    assert_eq!(receive(&mut busy).await, "worker-0");
    assert_eq!(two.served.await.unwrap(), ShutdownOutcome::Drained);
}
