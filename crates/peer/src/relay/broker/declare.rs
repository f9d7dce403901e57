//! Brings the broker into the shape of [`topology`], and starts to take messages.
//!
//! What all peers share (the exchanges, the dead letters) is asked for passively first: where the directory rules the
//! broker, it is the operator's, and a peer has no right to make it. Where it is missing, or where the broker is plain,
//! it is declared. A broker that has something else under one of our names says what differs, and that is shown as it
//! is: nothing is deleted or worked around, because messages may lie in it.
//!
//! [`topology`]: super::topology

use lapin::{
    Channel, Consumer, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{
    connection::{ANSWER_LIMIT, Link, Trouble, within},
    topology::{ANSWERS, Argument, DEAD, Queue, REQUESTS, dead_letters},
};

const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;

/// How a queue is consumed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taking {
    /// Messages in hand at most.
    pub(super) prefetch: u16,
    /// The consumer with the highest one is served first.
    pub(super) priority: Option<i64>,
}

/// What all peers share.
enum Common {
    Exchange(&'static str, ExchangeKind),
    Queue(Queue),
}

/// Sees to what all peers share. `ruled`: the broker's rights are the directory's, so that most of it is not ours.
pub(super) async fn shared(link: &Link, ruled: bool) -> Result<(), Trouble> {
    let (requests, answers) =
        (Common::Exchange(REQUESTS, ExchangeKind::Topic), Common::Exchange(ANSWERS, ExchangeKind::Topic));
    let (grave, graves) = (Common::Exchange(DEAD, ExchangeKind::Fanout), Common::Queue(dead_letters()));
    let dead = async {
        // The queue is bound to the exchange.
        grave.see_to(link, ruled).await?;
        graves.see_to(link, ruled).await
    };
    futures::try_join!(requests.see_to(link, ruled), answers.see_to(link, ruled), dead)?;
    Ok(())
}

/// Declares one of our queues and starts to take from it.
pub(super) async fn own(link: &Link, queue: &Queue, taking: Taking) -> Result<Consumer, Trouble> {
    let channel = link.channel().await?;
    declare(&channel, queue).await.map_err(|trouble| explained(&queue.name, trouble))?;
    bind(&channel, queue).await.map_err(|trouble| explained(&queue.name, trouble))?;
    let qos = channel.basic_qos(taking.prefetch, BasicQosOptions::default());
    within(ANSWER_LIMIT, "setting the prefetch", qos).await?;
    let mut arguments = FieldTable::default();
    if let Some(priority) = taking.priority {
        arguments.insert("x-priority".into(), AMQPValue::LongLongInt(priority));
    }
    let tag = ShortString::default();
    let consuming = channel.basic_consume(name(queue), tag, BasicConsumeOptions::default(), arguments);
    within(ANSWER_LIMIT, "consuming", consuming).await.map_err(|trouble| explained(&queue.name, trouble))
}

/// Messages that lie in a queue. `None` where it is not there, or not ours to look at.
pub(super) async fn depth(link: &Link, queue: &Queue) -> Result<Option<u32>, Trouble> {
    let channel = link.channel().await?;
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let looking = channel.queue_declare(name(queue), options, FieldTable::default());
    match within(ANSWER_LIMIT, "looking at a queue", looking).await {
        Ok(found) => Ok(Some(found.message_count())),
        Err(Trouble::Refused { code: ACCESS_REFUSED | NOT_FOUND, .. }) => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

impl Common {
    fn name(&self) -> &str {
        match self {
            Self::Exchange(name, _) => name,
            Self::Queue(queue) => &queue.name,
        }
    }

    /// Makes sure that it is there and, where it is ours to say, that it has the right shape.
    async fn see_to(&self, link: &Link, ruled: bool) -> Result<(), Trouble> {
        let is_there = match self.look(link).await {
            Ok(()) => true,
            Err(Trouble::Refused { code: NOT_FOUND, .. }) => false,
            // RabbitMQ 4.3 tells only who may use it, and nobody but the operator reads dead letters.
            Err(Trouble::Refused { code: ACCESS_REFUSED, .. }) if ruled => true,
            Err(trouble) => return Err(explained(self.name(), trouble)),
        };
        if is_there && ruled {
            return Ok(());
        }
        match self.make(link).await {
            // It is somebody else's to declare, and it is there.
            Err(Trouble::Refused { code: ACCESS_REFUSED, .. }) if is_there => Ok(()),
            Err(Trouble::Refused { code: ACCESS_REFUSED, text }) => Err(Trouble::Refused {
                code: ACCESS_REFUSED,
                text: format!("{} is missing, and this peer may not make it: {text}", self.name()),
            }),
            answer => answer.map_err(|trouble| explained(self.name(), trouble)),
        }
    }

    /// Whether it is there; its shape is not looked at. A refusal closes the channel, so each question has its own.
    async fn look(&self, link: &Link) -> Result<(), Trouble> {
        let channel = link.channel().await?;
        match self {
            Self::Exchange(name, kind) => {
                let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
                declare_exchange(&channel, name, kind, options).await
            }
            Self::Queue(queue) => {
                let options = QueueDeclareOptions { passive: true, ..Default::default() };
                let looking = channel.queue_declare(name(queue), options, FieldTable::default());
                within(ANSWER_LIMIT, "looking for a queue", looking).await.map(drop)
            }
        }
    }

    async fn make(&self, link: &Link) -> Result<(), Trouble> {
        let channel = link.channel().await?;
        match self {
            Self::Exchange(name, kind) => {
                // Dead letters are the broker's to put there; nobody else may.
                let internal = *name == DEAD;
                let options = ExchangeDeclareOptions { durable: true, internal, ..Default::default() };
                declare_exchange(&channel, name, kind, options).await
            }
            Self::Queue(queue) => {
                declare(&channel, queue).await?;
                bind(&channel, queue).await
            }
        }
    }
}

async fn declare_exchange(
    channel: &Channel,
    name: &str,
    kind: &ExchangeKind,
    options: ExchangeDeclareOptions,
) -> Result<(), Trouble> {
    let declaring = channel.exchange_declare(name.into(), kind.clone(), options, FieldTable::default());
    within(ANSWER_LIMIT, "declaring an exchange", declaring).await
}

async fn declare(channel: &Channel, queue: &Queue) -> Result<(), Trouble> {
    let options = QueueDeclareOptions {
        durable: !queue.exclusive,
        exclusive: queue.exclusive,
        auto_delete: queue.exclusive,
        ..Default::default()
    };
    let mut arguments = FieldTable::default();
    for (name, argument) in &queue.arguments {
        arguments.insert(
            (*name).into(),
            match *argument {
                Argument::Word(word) => AMQPValue::LongString(word.into()),
                Argument::Number(number) => AMQPValue::LongLongInt(number),
            },
        );
    }
    let declaring = channel.queue_declare(name(queue), options, arguments);
    within(ANSWER_LIMIT, "declaring a queue", declaring).await.map(drop)
}

async fn bind(channel: &Channel, queue: &Queue) -> Result<(), Trouble> {
    let (exchange, key) = (queue.exchange.into(), queue.binding.as_str().into());
    let options = QueueBindOptions::default();
    let binding = channel.queue_bind(name(queue), exchange, key, options, FieldTable::default());
    within(ANSWER_LIMIT, "binding a queue", binding).await
}

fn name(queue: &Queue) -> ShortString {
    queue.name.as_str().into()
}

/// What the broker says names the argument that differs; what to do about it, it does not say.
fn explained(name: &str, trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Refused { code: PRECONDITION_FAILED, text } => Trouble::Refused {
            code: PRECONDITION_FAILED,
            text: format!("{name} has another shape on this broker, delete it there: {text}"),
        },
        Trouble::Refused { code, text } => Trouble::Refused { code, text: format!("{name}: {text}") },
        Trouble::Late(what) => Trouble::Lost(format!("{name}: {}", Trouble::Late(what))),
        lost @ Trouble::Lost(_) => lost,
    }
}
