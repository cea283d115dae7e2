//! The command plane: durable jobs. Pure rules first; whatever talks to the database stands behind them.

mod execute;
#[cfg(test)]
mod execute_tests;
mod state;
#[cfg(test)]
mod state_tests;

pub use execute::{
    BoxedKeep, Call, Checkpoint, Keep, KeepLater, MAX_KEPT, MAX_RESULT, Outcome, Program, Run,
};
pub use state::{
    Attempts, Cancelled, Due, Event, RESCUES, Refused, Standing, State, callback, callback_missed, cancel,
    claim, discard, enqueue, expire, fail, hand_back, postpone, promote, rescue, retry_now, snooze, succeed,
    superseded, wait,
};
