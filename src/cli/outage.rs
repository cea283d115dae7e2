//! What `dev --sample` says while the service that the example asks goes down and comes back: when a breaker
//! opens and closes, and at the end the replay of what was given up.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::live::Screen;
use super::screening::Screening;
use crate::engine::{TaskError, View};

/// Where the example's dead letter lies that the outage is a chance to replay, and its code.
pub(super) const DLQ: &str = "intelligence";
pub(super) const UNSCREENED: &str = "http-404";

/// How often breakers are looked at: an open one stays so for longer.
const EVERY: Duration = Duration::from_millis(100);

/// What follows once everything goes on.
pub(super) struct Closing {
    /// Sends the record again that was given up; how many that were.
    pub(super) replay: Box<dyn Fn() -> Result<u64, String> + Send + Sync>,
    /// What commands need to find this engine's files and brokers.
    pub(super) variables: String,
}

/// Plays the outage once, and says what comes of it.
///
/// # Errors
/// Where nothing can be replayed.
pub(super) async fn tell(
    screening: Arc<Screening>,
    view: Arc<dyn View>,
    screen: Screen,
    closing: Arc<Closing>,
    cancel: CancellationToken,
) -> Result<(), TaskError> {
    let told = cancel.run_until_cancelled(async {
        let mut breakers = Breakers { view, screen: screen.clone(), open: HashSet::new() };
        tokio::select! {
            () = screening.play(&screen) => {}
            () = breakers.follow(|_| false) => {}
        }
        breakers.follow(HashSet::is_empty).await;
        screen.say(&closing.text());
        let sent = tokio::task::spawn_blocking(move || (closing.replay)()).await??;
        screen.say(&format!("replayed {sent} of the dead letters with the code {UNSCREENED}\n"));
        breakers.follow(|_| false).await;
        Ok::<(), TaskError>(())
    });
    told.await.unwrap_or(Ok(()))
}

impl Closing {
    fn text(&self) -> String {
        format!(
            "\nOne author was not known before the outage, so that a record was given up. It is sent to its stage\n\
             again now, as `biplane replays start --dlq {DLQ} --code {UNSCREENED}` does it elsewhere. Look at what\n\
             else is in the DLQs from another terminal:\n\n\
             export {}\nbiplane dlqs list\n\n",
            self.variables
        )
    }
}

/// The breakers of all stages as they were last seen.
struct Breakers {
    view: Arc<dyn View>,
    screen: Screen,
    open: HashSet<(String, String)>,
}

impl Breakers {
    /// Says which open and close until `end` says so of those that are open.
    async fn follow(&mut self, end: impl Fn(&HashSet<(String, String)>) -> bool) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.look();
            if end(&self.open) {
                return;
            }
        }
    }

    fn look(&mut self) {
        for stage in self.view.status().stages {
            for breaker in stage.breakers {
                let place = (stage.stage.clone(), breaker.step);
                let (stage, step) = &place;
                match (breaker.open, self.open.contains(&place)) {
                    (true, false) => {
                        self.screen.say(&format!(
                            "{stage}: the breaker of step `{step}` is open: the stage pauses, and one record at a \
                             time asks whether it is back\n"
                        ));
                        self.open.insert(place);
                    }
                    (false, true) => {
                        self.screen.say(&format!(
                            "{stage}: the breaker of step `{step}` is closed: everything goes on in its order\n"
                        ));
                        self.open.remove(&place);
                    }
                    _ => {}
                }
            }
        }
    }
}
