//! Random histories of calls.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Op {
    Admit,
    End(usize, Effect),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let effect = prop_oneof![
        Just(Good),
        Just(Bad),
        Just(Neutral),
        Just(Throttled),
        (1u64..9_000).prop_map(|wait| RetryAfter(ms(wait))),
    ];
    prop_oneof![
        Just(Op::Admit),
        (any::<usize>(), effect).prop_map(|(which, effect)| Op::End(which, effect)),
        (0u64..4_000).prop_map(Op::Pass),
    ]
}

proptest! {
    #[test]
    fn cb_34_fault_f29_never_sticks_and_limits_probes(
        ops in prop::collection::vec(op(), 1..300),
        concurrency in 1u32..3,
    ) {
        let mut bench = Bench::new(|config| {
            config.consecutive_failures = Some(2);
            config.half_open_concurrency = concurrency;
            config.half_open_max_failures = 1;
        });
        let mut running: Vec<(Ticket, Instant)> = Vec::new();
        let (mut generation, mut counted) = (0, 0u32);
        for op in ops {
            match op {
                Op::Admit => if let Some(ticket) = bench.admit() {
                    running.push((ticket, bench.now));
                },
                Op::End(which, effect) if !running.is_empty() => {
                    let (ticket, _) = running.swap_remove(which % running.len());
                    let before = bench.machine.generation();
                    let taken = bench.end(ticket, effect);
                    if taken && bench.machine.generation() == before && ticket.probe.is_none() {
                        counted += u32::from(matches!(effect, Good | Bad));
                    }
                }
                Op::End(..) => {}
                Op::Pass(time) => { bench.advance(ms(time)); }
            }
            let now = bench.now;
            prop_assert!(bench.machine.generation() >= generation);
            if bench.machine.generation() != generation {
                (generation, counted) = (bench.machine.generation(), 0);
            }
            if bench.state() == State::Closed {
                prop_assert!(bench.machine.tally(now).total <= u64::from(counted));
            }
            let probes = running.iter().filter(|(ticket, since)| {
                ticket.generation == generation && ticket.probe.is_some() && now < *since + ms(5_000)
            });
            prop_assert!(probes.count() <= concurrency as usize);
        }
        // The outage is over: as time passes, calls are admitted and close the breaker.
        for _ in 0..10 {
            bench.advance(Duration::from_secs(600));
            if let Some(ticket) = bench.admit() {
                bench.end(ticket, Good);
            }
        }
        prop_assert_eq!(bench.state(), State::Closed);
    }
}
