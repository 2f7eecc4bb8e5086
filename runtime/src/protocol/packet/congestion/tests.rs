//! The controller on a virtual path, and by hand where a path cannot say it.

mod path;

use self::path::{DATAGRAM, Path, Supply, World};
use super::*;

const MEGABIT: u64 = 125_000;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// 20 Mbit/s, 20 ms, a queue of one round trip.
fn clean() -> Path {
    Path {
        rate: 20 * MEGABIT,
        rtt: ms(20),
        queue: 50_000,
        lost: 0,
        repeated: 0,
        jitter: Duration::ZERO,
        timer: Duration::ZERO,
    }
}

fn nothing(_: &World) {}

#[test]
fn a_lossy_path_is_used_to_seven_tenths() {
    for jitter in [0, 1, 5, 10] {
        for queue in [12_500, 50_000, 200_000] {
            for lost in [20, 50] {
                // A round trip of 20 ms on the average.
                let (rtt, jitter) = (ms(20 - jitter), ms(jitter));
                let path = Path { lost, repeated: 10, rtt, jitter, queue, timer: ms(1), ..clean() };
                let mut world = World::new(path, 1, Supply::Endless);
                let first = world.goodput(0, ms(2000)) * 100 / path.rate;
                let later = world.goodput(0, ms(20_000)) * 100 / path.rate;
                let case = format!("jitter {jitter:?}, queue {queue}, lost {lost} of 1000");
                assert!(first >= 70, "{case}: {first} % at first");
                assert!(later >= 85, "{case}: {later} %");
                let [spurious, delivered] = [world.flows[0].spurious, world.flows[0].delivered];
                assert!(spurious * 50 <= delivered, "{case}: {spurious} of {delivered} sent twice");
            }
        }
    }
}

#[test]
fn a_clean_path_is_used_and_its_queue_stays_short() {
    let path = Path { queue: 1_000_000, ..clean() };
    let holds = (path.rate / 50) as usize;
    let mut world = World::new(path, 1, Supply::Endless);
    world.run(ms(1000), nothing);
    let (mut most, mut sum, mut count) = (0, 0, 0);
    let before = world.flows[0].delivered;
    world.run(ms(30_000), |world| {
        let in_flight = world.flows[0].in_flight;
        (most, sum, count) = (most.max(in_flight), sum + in_flight, count + 1);
    });
    let got = (world.flows[0].delivered - before) * DATAGRAM as u64 / 30;
    assert!(got * 100 >= path.rate * 93, "{got}");
    assert!(most * 10 <= holds * 25, "{most}");
    assert!(sum / count * 10 <= holds * 14, "{}", sum / count);
    assert_eq!(world.flows[0].dropped, 0);
}

#[test]
fn a_cold_start_doubles_each_round() {
    for (rate, rtt) in [(20 * MEGABIT, 20), (1000 * MEGABIT, 20), (20 * MEGABIT, 200)] {
        let path = Path { rate, rtt: ms(rtt), queue: rate / 1000 * rtt, ..clean() };
        let holds = rate / 1000 * rtt;
        let rounds = (holds / (10 * DATAGRAM as u64)).ilog2() as u64 + 1;
        let mut world = World::new(path, 1, Supply::Endless);
        world.run(ms(rtt * (rounds + 3)), nothing);
        let got = world.goodput(0, ms(rtt * 10)) * 100 / rate;
        assert!(got >= 85, "{rate} {rtt}: {rounds} rounds, {got} %");
    }
}

#[test]
fn a_rate_that_falls_to_a_tenth_is_followed_within_two_seconds() {
    for queue in [20_000, 50_000, 200_000, 1_000_000] {
        let path = Path { queue, ..clean() };
        let mut world = World::new(path, 1, Supply::Endless);
        world.run(ms(3000), nothing);
        world.path.rate /= 10;
        world.run(ms(2000), nothing);
        let flow = &world.flows[0];
        assert!(flow.controller.pacing_rate() <= world.path.rate * 3 / 2, "queue {queue}");
        assert!(flow.controller.window() <= 40_000, "{}", flow.controller.window());
        let got = world.goodput(0, ms(3000)) * 100 / world.path.rate;
        assert!(got >= 80, "queue {queue}: {got} %");

        world.path.rate *= 10;
        world.run(ms(3000), nothing);
        let got = world.goodput(0, ms(3000)) * 100 / world.path.rate;
        assert!(got >= 85, "queue {queue}: back to {got} %");
    }
}

#[test]
fn a_path_that_becomes_a_hundred_times_as_long_is_soon_full_again() {
    for supply in [Supply::Endless, Supply::Every(ms(30), 2)] {
        let path = Path { rtt: Duration::from_micros(200), ..clean() };
        let mut world = World::new(path, 1, supply);
        world.run(ms(3000), nothing);
        world.path.rtt = ms(20);
        world.supply(0, Supply::Endless);
        world.run(ms(3000), nothing);
        let got = world.goodput(0, ms(3000)) * 100 / world.path.rate;
        assert!(got >= 85, "{got} %");
    }
}

#[test]
fn a_sender_with_little_to_send_does_not_lower_the_estimate() {
    let mut world = World::new(clean(), 1, Supply::Endless);
    world.run(ms(3000), nothing);
    let before = world.flows[0].controller.highest.get();
    world.supply(0, Supply::Every(ms(30), 2));
    world.run(ms(30_000), nothing);
    let after = world.flows[0].controller.highest.get();
    assert!(after * 100 >= before * 95, "{before} {after}");
    world.supply(0, Supply::Endless);
    let got = world.goodput(0, ms(200)) * 100 / world.path.rate;
    assert!(got >= 80, "{got} %");
}

#[test]
fn after_idling_no_more_than_a_burst_leaves_at_once() {
    let mut world = World::new(clean(), 1, Supply::Endless);
    for idle in [100, 5_000, 15_000, 100_000] {
        world.supply(0, Supply::Endless);
        world.run(ms(3000), nothing);
        world.supply(0, Supply::Nothing);
        world.run(ms(idle), nothing);
        assert_eq!(world.flows[0].in_flight, 0);
        world.flows[0].most_at_once = 0;
        world.supply(0, Supply::Endless);
        let got = world.goodput(0, ms(500)) * 100 / world.path.rate;
        assert!(world.flows[0].most_at_once <= 10 * DATAGRAM, "{}", world.flows[0].most_at_once);
        assert!(got >= 80, "after {idle} ms: {got} %");
    }
}

#[test]
fn requests_and_replies_never_wait_for_the_path_to_be_measured() {
    for count in [1, 3, 4] {
        // No sample is ever as short as the shortest, and from some moment on none is near it.
        let path = Path { jitter: ms(1), ..clean() };
        let mut world = World::new(path, 1, Supply::Requests(count));
        world.run(ms(1000), nothing);
        let mut before = world.flows[0].delivered;
        for second in 0..40 {
            world.path.rtt = if second < 15 { ms(20) } else { ms(23) };
            world.run(ms(1000), |world| {
                assert!(!matches!(world.flows[0].controller.mode, Mode::ProbeRtt(_)));
            });
            let delivered = world.flows[0].delivered;
            // A round trip, and the delay of a last acknowledgement.
            assert!(delivered - before >= 30 * count, "{count}, {second}: {}", delivered - before);
            before = delivered;
        }
    }
}

#[test]
fn many_requests_at_once_are_held_up_little_by_the_measurement() {
    let mut world = World::new(clean(), 1, Supply::Requests(16));
    world.run(ms(1000), nothing);
    let mut before = world.flows[0].delivered;
    for second in 0..40 {
        world.run(ms(1000), nothing);
        let delivered = world.flows[0].delivered;
        assert!(delivered - before >= 16 * 25, "second {second}: {}", delivered - before);
        before = delivered;
    }
}

#[test]
fn a_bulk_sender_measures_the_path_again_and_goes_on() {
    let path = Path { queue: 200_000, ..clean() };
    let mut world = World::new(path, 1, Supply::Endless);
    world.run(ms(3000), nothing);
    world.path.rtt = ms(60);
    let (mut probing, mut last) = (Duration::ZERO, world.now);
    world.run(ms(25_000), |world| {
        if matches!(world.flows[0].controller.mode, Mode::ProbeRtt(_)) {
            probing += world.now.since(last);
        }
        last = world.now;
    });
    assert!(probing >= ms(200) && probing <= ms(1500), "{probing:?}");
    let shortest = world.flows[0].controller.shortest.rtt.unwrap_or_default();
    assert!(shortest >= ms(60) && shortest < ms(66), "{shortest:?}");
    let got = world.goodput(0, ms(5000)) * 100 / path.rate;
    assert!(got >= 90, "{got} %");
}

#[test]
fn a_loopback_of_50_microseconds_is_used() {
    for timer in [Duration::ZERO, ms(1)] {
        let rate = 1_000_000_000;
        let path =
            Path { rate, rtt: Duration::from_micros(50), queue: 4_000_000, timer, ..clean() };
        let mut world = World::new(path, 1, Supply::Endless);
        world.run(ms(50), nothing);
        let got = world.goodput(0, ms(400)) * 100 / rate;
        assert!(got >= 70, "timer {timer:?}: {got} %");
    }
}

#[test]
fn two_flows_share_a_path() {
    let path = Path { queue: 100_000, ..clean() };
    let mut world = World::new(path, 2, Supply::Endless);
    world.supply(1, Supply::Nothing);
    world.run(ms(3000), nothing);
    world.supply(1, Supply::Endless);
    world.run(ms(20_000), nothing);
    let before = world.flows[1].delivered;
    let first = world.goodput(0, ms(20_000));
    let second = (world.flows[1].delivered - before) * DATAGRAM as u64 / 20;
    assert!((first + second) * 100 >= path.rate * 85, "{first} {second}");
    assert!(first.min(second) * 5 >= path.rate, "{first} {second}");
}

#[test]
fn a_path_that_is_cut_is_used_again_when_it_is_back() {
    let mut world = World::new(clean(), 1, Supply::Endless);
    world.run(ms(3000), nothing);
    world.path.lost = 1000;
    world.run(ms(5000), nothing);
    world.flows[0].controller.on_persistent_congestion();
    assert_eq!(world.flows[0].controller.window(), 4 * DATAGRAM);
    world.path.lost = 0;
    world.run(ms(500), nothing);
    let got = world.goodput(0, ms(1000)) * 100 / world.path.rate;
    assert!(got >= 85, "{got} %");
}

#[test]
fn the_window_stays_between_four_datagrams_and_the_maximum() {
    for datagram in [548, 1200, 65_000] {
        let mut controller = Controller::new(Time::ZERO, datagram, ms(20));
        for _ in 0..10_000 {
            controller.on_lost(Time::ZERO, datagram, 0);
        }
        assert_eq!(controller.window(), 4 * datagram);

        let mut controller = Controller::new(Time::ZERO, datagram, ms(20));
        let mut now = Time::ZERO;
        for _ in 0..40 {
            let count = controller.window() / datagram;
            let stamps: Vec<Stamp> = (0..count)
                .map(|sent| controller.on_sent(now, datagram, sent * datagram, false))
                .collect();
            now = now + ms(1000);
            for (acked, stamp) in stamps.into_iter().enumerate() {
                controller.on_acked(now, datagram, stamp, (count - acked - 1) * datagram);
            }
        }
        assert_eq!(controller.window(), MAX_WINDOW as usize);
    }
}

#[test]
fn a_datagram_beside_few_others_never_waits_for_the_pace() {
    let mut controller = Controller::new(Time::ZERO, DATAGRAM, Duration::from_secs(10));
    let now = Time::ZERO + ms(5);
    for _ in 0..1000 {
        controller.on_sent(now, DATAGRAM, 0, true);
    }
    assert_eq!(controller.ready_at(now, DATAGRAM, 4 * DATAGRAM), now, "half of the window");
    assert!(controller.ready_at(now, DATAGRAM, 5 * DATAGRAM) > now);
}

#[test]
fn no_time_or_size_overflows() {
    for rtt in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        for datagram in [0, 1, 65_000, usize::MAX / 1024] {
            let mut controller = Controller::new(Time::ZERO, datagram, rtt);
            for now in [Time::ZERO, Time::ZERO + ms(1), Time::ZERO + Duration::MAX] {
                let stamp = controller.on_sent(Time::ZERO, datagram, 0, false);
                controller.on_acked(now, datagram, stamp, 0);
                controller.on_lost(now, datagram, usize::MAX / 1024);
                assert!(controller.window() > 0 && controller.pacing_rate() > 0);
            }
        }
    }
}
