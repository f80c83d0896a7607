//! Following a running job: the backlog, then live lines, none missed or doubled in between (systems.md 5.15).

use std::time::Duration;

use hostler_api::client::LogItem;
use hostler_api::types::LogsQuery;
use hostler_tests::TestNode;

/// Readers that join at different times while lines are written in bursts.
const READERS: u64 = 24;
const LINES: u64 = 6_000;

/// A few bits of each step, so that readers do not come in step with the writer.
fn pause_ms(step: u64) -> u64 {
    step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58
}

async fn numbers(node: &TestNode, query: &LogsQuery, last_id: Option<&str>, most: usize) -> (Vec<u64>, Option<String>) {
    let mut stream = node.api().logs("writer", query, last_id).await.expect("logs");
    let mut seen = Vec::new();
    while seen.len() < most {
        match stream.next().await.expect("a line") {
            Some(LogItem::Line(line)) => seen.push(line.text.to_string_lossy().parse().expect("a number")),
            Some(LogItem::Lost(lost)) => panic!("{lost:?}"),
            None => break,
        }
    }
    (seen, stream.last_id().map(str::to_owned))
}

#[test]
fn each_reader_of_a_running_job_sees_a_gapless_sequence_whenever_it_joins() {
    let node = TestNode::new();
    let script = format!(
        "i=0; while [ $i -lt {LINES} ]; do n=0; while [ $n -lt 40 ]; do i=$((i+1)); n=$((n+1)); echo $i; done; sleep 0.005; done"
    );
    let mut spec = node.script(&script);
    spec.name = Some("writer".parse().unwrap());
    // Segments change while they are read.
    spec.log.segment_bytes = 16 * 1024;
    spec.log.segments = 200;
    node.create_started(&spec);
    let follow = LogsQuery { follow: true, ..LogsQuery::default() };
    let tail = LogsQuery { tail: Some(50), ..follow.clone() };
    node.block_on(async {
        let reader = async |reader: u64| {
            tokio::time::sleep(Duration::from_millis(pause_ms(reader) * 10)).await;
            match reader % 3 {
                // All of it.
                0 => {
                    let (seen, _) = numbers(&node, &follow, None, usize::MAX).await;
                    assert!(seen.iter().copied().eq(1..=LINES), "reader {reader} saw {} lines", seen.len());
                }
                // The end of the backlog, and on.
                1 => {
                    let (seen, _) = numbers(&node, &tail, None, usize::MAX).await;
                    let first = *seen.first().expect("a line");
                    assert!(
                        seen.iter().copied().eq(first..=LINES),
                        "reader {reader} from {first}: {} lines",
                        seen.len()
                    );
                }
                // Leaves now and then, and comes again where it was.
                _ => {
                    let (mut all, mut id) = (Vec::new(), None);
                    loop {
                        let most = 300 + usize::try_from(pause_ms(reader + all.len() as u64) * 20).unwrap();
                        let (seen, last_id) = numbers(&node, &follow, id.as_deref(), most).await;
                        let over = seen.len() < most;
                        all.extend(seen);
                        id = last_id.or(id);
                        if over {
                            break;
                        }
                    }
                    assert!(all.iter().copied().eq(1..=LINES), "reader {reader} saw {} lines", all.len());
                }
            }
        };
        futures(READERS, reader).await;
    });
    assert_eq!(node.ended("writer").exit_code, Some(0));
    // Who comes when it is over sees all of it too.
    node.block_on(async {
        let (seen, _) = numbers(&node, &follow, None, usize::MAX).await;
        assert!(seen.into_iter().eq(1..=LINES));
    });
    node.finish();
}

/// Runs so many side by side, on this thread.
async fn futures<F: Future<Output = ()>>(count: u64, make: impl Fn(u64) -> F) {
    let mut all: Vec<_> = (0..count).map(|number| Some(Box::pin(make(number)))).collect();
    std::future::poll_fn(|context| {
        for slot in &mut all {
            if slot.as_mut().is_some_and(|future| future.as_mut().poll(context).is_ready()) {
                *slot = None;
            }
        }
        if all.iter().all(Option::is_none) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
