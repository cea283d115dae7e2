//! `biplane replays` and the filters of `biplane dlqs` on a real Kafka.

mod letters;
mod runs;
mod scene;
mod stages;
