//! Tests of requests that arrive about the time of the stop, over real sockets.
//!
//! The server runs on the thread of the test. It sees what the test has sent between two `await`s, and the
//! stop, at once.

use super::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

/// Starts a server that responds at once. Returns its address, its stop and its end.
async fn quick() -> (SocketAddr, oneshot::Sender<()>, JoinHandle<ShutdownOutcome>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let service = service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
    });
    let (stop, stopped) = oneshot::channel();
    let stopped = async { drop(stopped.await) };
    let served = tokio::spawn(Server::default().serve(listener, service, stopped));
    (addr, stop, served)
}

/// Sends a request and receives its response.
async fn request(stream: &mut TcpStream) {
    stream.write_all(GET).await.unwrap();
    let mut response = Vec::new();
    while !response.ends_with(b"hello") {
        assert!(stream.read_buf(&mut response).await.unwrap() > 0);
    }
}

async fn connect(addr: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(TcpStream::connect(addr).await.unwrap());
    }
    streams
}

#[tokio::test]
async fn fault_k2_serves_the_requests_that_have_arrived_before_the_stop() {
    let (addr, stop, served) = quick().await;
    let mut parked = connect(addr, 10).await;
    for stream in &mut parked {
        request(stream).await;
    }
    // Connections are parked after 250 ms.
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(1)).await;
    tokio::time::resume();
    let mut served_before = connect(addr, 10).await;
    for stream in &mut served_before {
        request(stream).await;
    }
    let (mut streams, accepted) = (connect(addr, 10).await, tokio::task::yield_now());
    accepted.await;
    streams.extend(parked);
    streams.extend(served_before);
    for stream in &streams {
        stream.writable().await.unwrap();
    }
    // In the backlog of the listener.
    let mut backlog = std::net::TcpStream::connect(addr).unwrap();
    std::io::Write::write_all(&mut backlog, GET).unwrap();
    backlog.set_nonblocking(true).unwrap();
    for stream in &streams {
        assert_eq!(stream.try_write(GET).unwrap(), GET.len());
    }
    stop.send(()).unwrap();
    streams.push(TcpStream::from_std(backlog).unwrap());
    for (index, mut stream) in streams.into_iter().enumerate() {
        let mut response = String::new();
        // An error would be a reset.
        stream.read_to_string(&mut response).await.unwrap();
        let (start, end) = ("HTTP/1.1 200 OK\r\nconnection: close\r\n", "\r\n\r\nhello");
        let whole = response.starts_with(start) && response.ends_with(end);
        assert!(whole, "{index}: {response}");
    }
    assert_eq!(served.await.unwrap(), ShutdownOutcome::Drained);
}

#[tokio::test]
async fn fault_k2_a_part_of_a_head_does_not_delay_the_stop() {
    let (addr, stop, served) = quick().await;
    let mut streams = connect(addr, 2).await;
    request(&mut streams[0]).await;
    for stream in &streams {
        stream.writable().await.unwrap();
        assert_eq!(stream.try_write(&GET[..20]).unwrap(), 20);
    }
    stop.send(()).unwrap();
    for mut stream in streams {
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        assert_eq!(response, "");
    }
    assert_eq!(served.await.unwrap(), ShutdownOutcome::Drained);
}
