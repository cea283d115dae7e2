//! What the steps of durable jobs promise, through the binary, on a real Postgres and a real Kafka.

mod attempts;
mod callbacks;
mod enqueue;
mod publish;
