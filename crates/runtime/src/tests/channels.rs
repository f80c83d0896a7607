use hostler_model::limits;
use hostler_wire::{AttachTarget, StatsDepth};

use super::*;
use crate::{AttachRequest, Attachment, Output, Role, RuntimeError};

const REQUEST: AttachRequest = AttachRequest { target: AttachTarget::Main, role: Role::Owner, stdin: true, from: None };

/// A run that has started, with an open channel.
async fn attached(node: &mut Node) -> (FakeAgent, Attachment, u32) {
    node.runtime.prepare(launch(run(1), &Namespace::owner()));
    node.runtime.execute(run(1));
    let runtime = node.runtime.clone();
    // Asked for while there is no agent yet.
    let attach = tokio::spawn(async move { runtime.attach(run(1), REQUEST).await });
    tokio::task::yield_now().await;
    let mut agent = node.warm_agent().await;
    assert!(matches!(agent.message().await, ToAgent::Prepare { launch } if launch.run == run(1)));
    let channel = opened(&mut agent).await;
    agent.say(FromAgent::Prepared { run: run(1) }).await;
    assert_eq!(agent.message().await, ToAgent::Execute { run: run(1) }, "nothing the program does is missed");
    agent.say(FromAgent::Started { run: run(1), pid: 1, started_at_ms: 1 }).await;
    let attachment = attach.await.expect("no panic").expect("attached");
    (agent, attachment, channel)
}

/// The agent is told of a channel and its first credit.
async fn opened(agent: &mut FakeAgent) -> u32 {
    let ToAgent::Attach { channel, owner: true, stdin: true, .. } = agent.message().await else {
        panic!("not an attach")
    };
    assert_eq!(agent.got().await, Some(Got::Credit { channel, bytes: limits::CHANNEL_CREDIT }));
    channel
}

#[tokio::test]
async fn who_asks_ahead_is_attached_before_the_program_can_be_executed() {
    let mut node = Node::new(0);
    for number in [1, 2] {
        let ahead = node.runtime.attach_ahead(run(number), REQUEST);
        let given_up = node.runtime.attach_ahead(run(9), REQUEST);
        drop(given_up);
        node.runtime.prepare(launch(run(number), &Namespace::owner()));
        node.runtime.execute(run(number));
        let mut agent = node.warm_agent().await;
        assert!(matches!(agent.message().await, ToAgent::Prepare { launch } if launch.run == run(number)));
        opened(&mut agent).await;
        assert_eq!(agent.message().await, ToAgent::Execute { run: run(number) });
        ahead.await.expect("an answer").expect("attached");
    }
}

#[tokio::test]
async fn a_stalled_reader_holds_a_bounded_amount_and_loses_nothing() {
    let mut node = Node::new(0);
    let (mut agent, mut attachment, channel) = attached(&mut node).await;
    let held = shared(&node).agent_now(run(1)).and_then(|agent| agent.channel(channel)).expect("open");
    // The worst a program can do: a byte here, a byte there.
    let mut credit = limits::CHANNEL_CREDIT;
    let mut sent = [0u64; 2];
    while credit > 0 {
        let mut bytes = Vec::new();
        for _ in 0..1024 {
            for (index, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
                encode_data(&mut bytes, channel, stream, sent[index], false, b"x");
                sent[index] += 1;
                credit -= 1;
            }
        }
        agent.stream().write_all(&bytes).await.expect("the runtime reads though nobody else does");
    }
    let runtime = node.runtime.clone();
    let asked = tokio::spawn(async move { runtime.stats(run(1), StatsDepth::Usual).await });
    assert!(matches!(agent.message().await, ToAgent::Stats { .. }), "no credit came before it, and control flows");
    agent.say(FromAgent::Stats { request: 1, stats: Default::default() }).await;
    asked.await.expect("no panic").expect("an answer");
    assert!(held.held_bytes() < limits::CHANNEL_CREDIT as usize * 2 + 16_384, "{} bytes", held.held_bytes());
    agent.say(FromAgent::ChannelClosed { channel }).await;
    let mut read = [0u64; 2];
    while let Some(Output { stream, offset, bytes, .. }) = attachment.output.next().await {
        let read = &mut read[usize::from(stream == Stream::Stderr)];
        assert_eq!(*read, offset);
        *read += bytes.len() as u64;
    }
    assert_eq!(read, sent);
}

#[tokio::test]
async fn credit_comes_back_as_the_reader_reads() {
    let mut node = Node::new(0);
    let (mut agent, mut attachment, channel) = attached(&mut node).await;
    let chunk = vec![7; limits::FRAME_DATA_MAX];
    let total = 4 * u64::from(limits::CHANNEL_CREDIT);
    let reader = tokio::spawn(async move {
        let mut read = 0;
        while let Some(output) = attachment.output.next().await {
            assert_eq!(output.offset, read);
            read += output.bytes.len() as u64;
        }
        read
    });
    let (mut credit, mut sent) = (u64::from(limits::CHANNEL_CREDIT), 0);
    while sent < total {
        if credit < chunk.len() as u64 {
            let Some(Got::Credit { bytes, .. }) = agent.got().await else { panic!("not a credit") };
            credit += u64::from(bytes);
            continue;
        }
        agent.data(channel, Stream::Stdout, sent, &chunk).await;
        sent += chunk.len() as u64;
        credit -= chunk.len() as u64;
    }
    agent.say(FromAgent::ChannelClosed { channel }).await;
    assert_eq!(reader.await.expect("no panic"), total);
}

#[tokio::test]
async fn input_waits_for_the_agents_credit() {
    let mut node = Node::new(0);
    let (mut agent, mut attachment, channel) = attached(&mut node).await;
    let writer = tokio::spawn(async move {
        attachment.input.write(b"hello world").await.expect("open");
        attachment.input.close();
        assert!(matches!(attachment.input.write(b"more").await, Err(RuntimeError::Closed)));
        attachment
    });
    agent.credit(channel, 5).await;
    assert_eq!(agent.got().await, Some(Got::Data { channel, offset: 0, eof: false, bytes: b"hello".to_vec() }));
    agent.credit(channel, 100).await;
    assert_eq!(agent.got().await, Some(Got::Data { channel, offset: 5, eof: false, bytes: b" world".to_vec() }));
    assert_eq!(agent.got().await, Some(Got::Data { channel, offset: 11, eof: true, bytes: Vec::new() }));
    drop(writer.await.expect("no panic"));
    assert_eq!(agent.message().await, ToAgent::Detach { channel });
}

#[tokio::test]
async fn without_its_reader_output_flows_on() {
    let mut node = Node::new(0);
    let (mut agent, attachment, channel) = attached(&mut node).await;
    let Attachment { output, input } = attachment;
    let chunk = vec![7; limits::FRAME_DATA_MAX];
    agent.data(channel, Stream::Stdout, 0, &chunk).await;
    agent.data(channel, Stream::Stdout, chunk.len() as u64, &chunk).await;
    drop(output);
    assert_eq!(agent.got().await, Some(Got::Credit { channel, bytes: 2 * limits::FRAME_DATA_MAX as u32 }));
    drop(input);
    assert_eq!(agent.message().await, ToAgent::Detach { channel });
    // What was on its way is dropped, not an error.
    agent.data(channel, Stream::Stdout, 0, &chunk).await;
    agent.say(FromAgent::Exited { run: run(1), exit: exit(0), clean: false }).await;
    while !matches!(node.fact().await, Fact::Exited { .. }) {}
}

#[tokio::test]
async fn an_agent_that_sends_more_than_it_may_is_given_up() {
    let mut node = Node::new(0);
    let (mut agent, mut attachment, channel) = attached(&mut node).await;
    let chunk = vec![7; limits::FRAME_DATA_MAX];
    for index in 0..=(limits::CHANNEL_CREDIT as usize / chunk.len()) {
        agent.data(channel, Stream::Stdout, (index * chunk.len()) as u64, &chunk).await;
    }
    while !matches!(node.fact().await, Fact::AgentLost { .. }) {}
    while attachment.output.next().await.is_some() {}
    assert!(matches!(attachment.input.write(b"x").await, Err(RuntimeError::Closed)));
}
