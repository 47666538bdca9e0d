//! Stands between a robot and its controller, and delays, loses, repeats and shuffles what is observed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use nudge_control::split_mix_64;
use zenoh::Wait;
use zenoh::key_expr::KeyExpr;
use zenoh::qos::CongestionControl;
use zenoh::query::{Query, QueryTarget};
use zenoh::sample::{Locality, Sample};

use crate::common::PREFIX;

/// What is done to every message of an observation; all 0 is a wire.
#[derive(Default)]
pub struct Trouble {
    pub delay_ms: AtomicU64,
    /// Up to so much more for each message, so that they overtake each other.
    pub shuffle_ms: AtomicU64,
    pub lost_percent: AtomicU64,
    pub repeated_percent: AtomicU64,
}

pub struct Proxy {
    pub trouble: Arc<Trouble>,
    _robot_side: zenoh::Session,
    _controller_side: zenoh::Session,
}

fn session(key: &str, endpoint: &str) -> zenoh::Session {
    let mut config = zenoh::Config::default();
    config.insert_json5("scouting/multicast/enabled", "false").unwrap();
    config.insert_json5("listen/endpoints", "[]").unwrap();
    config.insert_json5(key, &format!("[{endpoint:?}]")).unwrap();
    zenoh::open(config).wait().unwrap()
}

impl Proxy {
    /// Connects to the robot at `robot` and listens for the controller at `controller`.
    pub fn start(robot: &str, controller: &str, seed: u64) -> Self {
        let robot_side = session("connect/endpoints", robot);
        let controller_side = session("listen/endpoints", controller);
        let trouble = Arc::<Trouble>::default();
        let (send, waiting) = bounded::<(Instant, u64, Sample)>(10_000);
        let observed = troubled(trouble.clone(), send, seed);
        subscribe(&robot_side, "obs/*", observed);
        let out = controller_side.clone();
        std::thread::spawn(move || {
            let mut due: BinaryHeap<Reverse<(Instant, u64)>> = BinaryHeap::new();
            let mut samples = std::collections::HashMap::new();
            loop {
                let next = due.peek().map(|Reverse((at, _))| at.saturating_duration_since(Instant::now()));
                match waiting.recv_timeout(next.unwrap_or(Duration::from_secs(1))) {
                    Ok((at, number, sample)) => {
                        due.push(Reverse((at, number)));
                        samples.insert(number, sample);
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                while due.peek().is_some_and(|Reverse((at, _))| *at <= Instant::now()) {
                    let Some(Reverse((_, number))) = due.pop() else { break };
                    if let Some(sample) = samples.remove(&number) {
                        forward(&out, &sample);
                    }
                }
            }
        });
        for (from, to) in [(&robot_side, &controller_side), (&controller_side, &robot_side)] {
            let out = to.clone();
            subscribe(from, "ctl/*", move |sample| forward(&out, &sample));
            let asked = to.clone();
            from.declare_queryable(format!("{PREFIX}/rpc/*"))
                .allowed_origin(Locality::Remote)
                .callback(move |query| {
                    let asked = asked.clone();
                    // An answer may take its time, and zenoh's thread has none.
                    std::thread::spawn(move || ask_on(&asked, &query));
                })
                .background()
                .wait()
                .unwrap();
        }
        let out = robot_side.clone();
        subscribe(&controller_side, "act/*", move |sample| forward(&out, &sample));
        Self { trouble, _robot_side: robot_side, _controller_side: controller_side }
    }
}

fn subscribe(session: &zenoh::Session, keys: &str, heard: impl Fn(Sample) + Send + Sync + 'static) {
    session
        .declare_subscriber(format!("{PREFIX}/{keys}"))
        .allowed_origin(Locality::Remote)
        .callback(heard)
        .background()
        .wait()
        .unwrap();
}

/// Queues a message as the trouble has it.
fn troubled(
    trouble: Arc<Trouble>,
    queue: Sender<(Instant, u64, Sample)>,
    seed: u64,
) -> impl Fn(Sample) + Send + Sync + 'static {
    let drawn = AtomicU64::new(seed << 20);
    move |sample| {
        let draw = |below: u64| split_mix_64(drawn.fetch_add(1, Ordering::Relaxed)) % below.max(1);
        let value = |field: &AtomicU64| field.load(Ordering::Relaxed);
        if draw(100) < value(&trouble.lost_percent) {
            return;
        }
        let copies = 1 + u64::from(draw(100) < value(&trouble.repeated_percent));
        for _ in 0..copies {
            let late = value(&trouble.delay_ms) + draw(value(&trouble.shuffle_ms) + 1);
            let number = drawn.fetch_add(1, Ordering::Relaxed);
            // A queue of 10,000 that is full is a fault of the story.
            queue.try_send((Instant::now() + Duration::from_millis(late), number, sample.clone())).unwrap();
        }
    }
}

fn forward(out: &zenoh::Session, sample: &Sample) {
    let put = out.put(sample.key_expr().clone(), sample.payload().clone());
    let put = put.encoding(sample.encoding().clone()).attachment(sample.attachment().cloned());
    let put = put.congestion_control(CongestionControl::Drop).express(true).priority(sample.priority());
    drop(put.wait());
}

fn ask_on(to: &zenoh::Session, query: &Query) {
    let key: KeyExpr = query.key_expr().clone();
    let get = to
        .get(key.clone())
        .target(QueryTarget::All)
        .consolidation(zenoh::query::ConsolidationMode::None)
        .allowed_destination(Locality::Remote)
        .payload(query.payload().cloned().unwrap_or_default())
        .attachment(query.attachment().cloned())
        .timeout(Duration::from_millis(400));
    let Ok(replies) = get.wait() else { return };
    while let Ok(reply) = replies.recv() {
        if let Ok(sample) = reply.into_result() {
            let answer = query.reply(key.clone(), sample.payload().clone());
            drop(answer.encoding(sample.encoding().clone()).attachment(sample.attachment().cloned()).wait());
        }
    }
}
