//! HTTP/2 attacks with raw frames against a server in another process.
#![allow(missing_docs)]

mod common;

use common::{frames::*, front::*, *};

#[tokio::test]
async fn serve_for_others() {
    serve_if_requested().await;
}

/// A server after an attack, and the frames that it sent to the attacker.
struct Attack {
    front: Front,
    sent: Sent,
}

/// Attacks a new server. Asserts that other requests take less than 2 s meanwhile, and that the memory of
/// the server grows by less than 64 MiB.
async fn attacked(frames: Vec<u8>) -> Attack {
    let front = Front::start(1_000, ms(10_000));
    front.p99(20).await;
    let before = front.memory();
    let mut attack = Box::pin(attack(front.addr, frames));
    let mut slowest = ms(0);
    let sent = loop {
        tokio::select! {
            sent = &mut attack => break sent,
            asked = front.ask("/good") => slowest = slowest.max(asked.unwrap().1),
        }
    };
    let grown = front
        .memory()
        .zip(before)
        .map(|(now, then)| now.saturating_sub(then));
    println!(
        "others waited {slowest:?} at most, memory grew by {grown:?} MB, {:?}",
        sent.goaway
    );
    assert!(slowest < ms(2_000), "{slowest:?}");
    assert!(grown.is_none_or(|grown| grown < 64), "{grown:?} MB");
    Attack { front, sent }
}

impl Attack {
    /// Asserts that the server closed the connection with the error `code`.
    fn ended(&self, code: u32) {
        assert_eq!((self.sent.goaway, self.sent.closed), (Some(code), true));
    }

    /// Waits until no call of the attack is in flight and its connection is closed.
    async fn over(&self) {
        self.front
            .until(|counts| counts.live == 0 && counts.open == 1)
            .await;
    }
}

/// Builds the SETTINGS of a client that takes no response bytes.
fn no_window() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_d28_rapid_reset_closes_the_connection() {
    let frames =
        streams(20_000).flat_map(|stream| [request(stream, "/slow"), reset(stream)].concat());
    let front = Front::start(1_000, ms(10_000));
    let sent = attack(front.addr, frames.collect()).await;
    assert_eq!((sent.goaway, sent.closed), (Some(ENHANCE_YOUR_CALM), true));
    let counts = front.until(|counts| counts.live == 0).await;
    println!("{} of 20,000 requests reached the service", counts.calls);
    assert!(counts.calls <= 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_d29_a_continuation_flood_closes_the_connection() {
    let mut frames = frame(HEADERS, END_STREAM, 1, &get("/"));
    for _ in 0..100_000 {
        frames.extend(frame(CONTINUATION, 0, 1, &[]));
    }
    let attack = attacked(frames).await;
    attack.ended(ENHANCE_YOUR_CALM);
    attack.over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_d29_a_flood_of_empty_data_closes_the_connection() {
    let mut post = get("/slow");
    post[0] = 0x83;
    let mut frames = frame(HEADERS, END_HEADERS, 1, &post);
    for _ in 0..500_000 {
        frames.extend(frame(DATA, 0, 1, &[]));
    }
    let attack = attacked(frames).await;
    attack.ended(ENHANCE_YOUR_CALM);
    attack.over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_d29_an_hpack_bomb_closes_the_connection() {
    // A header of 4,000 bytes enters the dynamic table; each later byte is a reference to it.
    let mut block = get("/");
    block.extend([0x40, 1, b'a', 0x7f, 0xa1, 0x1e]);
    block.extend([b'b'; 4_000]);
    block.extend([0xbe; 12_000]);
    let frames = streams(50).flat_map(|stream| {
        // The first stream has put the header into the table.
        let later = [get("/"), vec![0xbe; 16_000]].concat();
        let block = if stream == 1 { &block } else { &later };
        frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            stream,
            &block[..block.len().min(16_384)],
        )
    });
    let attack = attacked(frames.collect()).await;
    attack.ended(ENHANCE_YOUR_CALM);
    attack.over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_d29_made_you_reset_closes_the_connection() {
    let nothing = |stream| frame(WINDOW_UPDATE, 0, stream, &[0; 4]);
    let too_much = |stream| frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffffu32.to_be_bytes());
    let on_itself = |stream: u32| frame(2, 0, stream, &[&stream.to_be_bytes()[..], &[1]].concat());
    let provoke: [&dyn Fn(u32) -> Vec<u8>; 3] = [&nothing, &too_much, &on_itself];
    for provoke in provoke {
        let frames =
            streams(5_000).flat_map(|stream| [request(stream, "/slow"), provoke(stream)].concat());
        let front = Front::start(1_000, ms(10_000));
        let sent = attack(front.addr, frames.collect()).await;
        let counts = front
            .until(|counts| counts.live == 0 && counts.open == 1)
            .await;
        println!("{:?} after {} calls", sent.goaway, counts.calls);
        assert!(sent.goaway.is_some() && sent.closed, "{sent:?}");
        assert!(counts.calls <= 300);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_d30_ping_and_settings_floods_do_not_delay_other_clients() {
    for (one, count) in [
        (frame(PING, 0, 0, &[7; 8]), 100_000),
        (frame(SETTINGS, 0, 0, &[]), 100_000),
    ] {
        let attack = attacked(one.repeat(count)).await;
        println!("{} of {count} were acknowledged", attack.sent.acks);
        attack.over().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_d31_streams_over_the_limit_are_refused() {
    let frames = streams(150)
        .flat_map(|stream| request(stream, "/slow"))
        .collect();
    let front = Front::start(1_000, ms(10_000));
    let sent = attack(front.addr, frames).await;
    assert_eq!(sent.resets, [REFUSED_STREAM; 50]);
    let counts = front.until(|counts| counts.live == 0).await;
    assert_eq!(counts.calls, 100);
}

/// Sends requests and resets each once the service has it, so that the limit of h2 does not count it. Fails
/// if the server closes the connection.
async fn cancel(client: &mut Client, path: &str, calls: u32) -> std::io::Result<()> {
    for stream in streams(calls) {
        client.send(&request(stream, path)).await?;
        client.ping().await?;
        client.send(&reset(stream)).await?;
    }
    client.ping().await
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_d41_resets_of_begun_calls_close_the_connection() {
    // A response that has begun does not protect from the limit, as its body has not ended.
    for path in ["/slow", "/stream"] {
        let front = Front::start(1_000, ms(10_000));
        let mut client = Client::connect(front.addr).await;
        assert!(cancel(&mut client, path, 12_000).await.is_err());
        let sent = client.end().await;
        assert_eq!((sent.goaway, sent.closed), (Some(ENHANCE_YOUR_CALM), true));
        let counts = front.until(|counts| counts.live == 0).await;
        println!("{} of 12,000 requests reached the service", counts.calls);
        assert!((100..=300).contains(&counts.calls));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_d42_a_client_that_connects_again_cancels_few_calls() {
    let front = Front::start(1_000, ms(10_000));
    let begin = tokio::time::Instant::now();
    for _ in 0..20 {
        let mut client = Client::connect(front.addr).await;
        cancel(&mut client, "/slow", 190).await.unwrap();
    }
    let counts = front.until(|counts| counts.live == 0).await;
    let seconds = begin.elapsed().as_secs() + 1;
    println!("{} of 3,800 requests reached the service", counts.calls);
    // 200 at once, one per connection, and 20 per second.
    assert!(counts.calls <= 200 + 20 + 20 * seconds, "{counts:?}");
    assert_eq!(front.ask("/good").await.unwrap().0, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_d43_unread_responses_are_bounded_and_given_back() {
    // Of 1,000 responses of 1 MiB, each connection gets 16 and some that were begun at once.
    unread_responses_are_bounded("/mebibyte", 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_d43_unread_streamed_responses_are_bounded_and_given_back() {
    // 4,000 responses that hold 300 KiB each.
    unread_responses_are_bounded("/parts", 40).await;
}

async fn unread_responses_are_bounded(path: &str, clients: usize) {
    let front = Front::start(1_000, ms(10_000));
    let before = front.memory();
    let frames: Vec<u8> = std::iter::once(no_window())
        .chain(streams(100).map(|stream| request(stream, path)))
        .flatten()
        .collect();
    let mut opened = Vec::new();
    for _ in 0..clients {
        let mut client = Client::connect(front.addr).await;
        client.send(&frames).await.unwrap();
        opened.push(client);
    }
    let (mut most, mut slowest) = (0, ms(0));
    for _ in 0..200 {
        let grown = front.memory().zip(before);
        most = most.max(grown.map_or(0, |(now, then)| now.saturating_sub(then)));
        slowest = slowest.max(front.ask("/good").await.unwrap().1);
        tokio::time::sleep(ms(5)).await;
    }
    let counts = front.counts().await;
    println!(
        "memory grew by {most} MB after {} calls, others waited {slowest:?}",
        counts.calls
    );
    assert!(most < 384, "{most} MB");
    assert!(slowest < ms(2_000), "{slowest:?}");
    drop(opened);
    front
        .until(|counts| counts.open == 1 && counts.unsent == 0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_d43_a_client_that_reads_gets_90_responses_of_a_new_server() {
    let front = Front::start(1_000, ms(10_000));
    let frames: Vec<u8> = [
        frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]),
        frame(WINDOW_UPDATE, 0, 0, &0x7000_0000u32.to_be_bytes()),
    ]
    .into_iter()
    .chain(streams(90).map(|stream| request(stream, "/mebibyte")))
    .flatten()
    .collect();
    let sent = attack(front.addr, frames).await;
    assert_eq!((sent.answers, sent.resets), (90, Vec::new()));
}
