//! The running side of a reload: rereads the configuration when asked, sends what may change to the forwarder, and has an
//! answer once that is in force. All or nothing: until then, and if anything is wrong, the old one stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::{Changes, Config, Difference};
use crate::metrics::Reload;
use crate::runtime::bridge::{self, FramePlan};
use crate::runtime::change::Change;

/// What came of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    /// Which kind.
    pub(super) reload: Reload,
    /// One line for the log and for `l4sd reload`.
    pub(super) message: String,
}

/// The configuration in force, and the way to another.
pub(super) struct Live<'a> {
    in_force: Config,
    plan: FramePlan,
    seed: u64,
    asked: Arc<AtomicBool>,
    read: Box<dyn Fn() -> anyhow::Result<Config> + 'a>,
    changes: rtrb::Producer<Change>,
    /// Changes sent so far.
    sent: u64,
    /// Sent, and not known to be in force.
    pending: Option<(Config, Vec<Difference>)>,
}

impl<'a> Live<'a> {
    /// `read` gives the configuration as file and flags have it now; `asked` is set by whoever wants a reload.
    pub(super) fn new(
        in_force: Config,
        (plan, seed): (FramePlan, u64),
        asked: Arc<AtomicBool>,
        read: impl Fn() -> anyhow::Result<Config> + 'a,
        changes: rtrb::Producer<Change>,
    ) -> Self {
        Self { in_force, plan, seed, asked, read: Box::new(read), changes, sent: 0, pending: None }
    }

    /// The configuration in force.
    pub(super) const fn in_force(&self) -> &Config {
        &self.in_force
    }

    /// Looks whether there is something to do or to say. `taken` is the number of the last change that both directions
    /// have taken over.
    pub(super) fn look(&mut self, taken: u64) -> Option<Outcome> {
        if self.pending.is_some() && taken < self.sent {
            return None;
        }
        if let Some((config, differences)) = self.pending.take() {
            self.in_force = config;
            let what: Vec<_> = differences.iter().map(ToString::to_string).collect();
            return Some(Outcome { reload: Reload::Applied, message: what.join(", ") });
        }
        // Not before what was asked for earlier is done; several requests at once are one.
        if self.asked.swap(false, Ordering::Relaxed) { self.begin() } else { None }
    }

    fn begin(&mut self) -> Option<Outcome> {
        let config = match (self.read)() {
            Ok(config) => config,
            Err(e) => return Some(Outcome { reload: Reload::Invalid, message: e.to_string() }),
        };
        let differences = match self.carried(&config).live() {
            Ok(differences) => differences,
            Err(e) => return Some(Outcome { reload: Reload::Refused, message: e.to_string() }),
        };
        if differences.is_empty() {
            let message = "nothing has changed; what is given by a flag stays as the flag says".to_owned();
            return Some(Outcome { reload: Reload::Unchanged, message });
        }
        let change = bridge::change(&config, self.plan, self.seed, self.sent + 1);
        // There is room, as nothing is pending; if there is none, the forwarder does not look any more.
        if self.changes.push(change).is_ok() {
            self.sent += 1;
            self.pending = Some((config, differences));
        }
        None
    }

    /// What differs, with a rate or a limit among the fixed if the buffers of this bridge are too few for it.
    fn carried(&self, config: &Config) -> Changes {
        let mut changes = Changes::between(&self.in_force, config);
        if !self.plan.carries(config) {
            let sizes = |d: &&Difference| d.key.starts_with("link.rate") || d.key == "link.limit";
            let larger = changes.live.iter().filter(sizes);
            changes
                .fixed
                .extend(larger.map(|d| {
                    format!("{} ({} needs more buffers than were taken at the start)", d.key, d.to)
                }));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::config::Settings;
    use crate::egress::LimitRule;
    use crate::runtime::change;
    use crate::time::Span;
    use crate::units::BitRate;

    fn config(keys: &str) -> anyhow::Result<Config> {
        let text = format!("[left]\nport = \"mem:\"\n[right]\nport = \"mem:\"\n[link]\n{keys}");
        Ok(Settings::from_toml(&text, "l4sd.toml")?.validate()?)
    }

    struct Rig<'a> {
        live: Live<'a>,
        asked: Arc<AtomicBool>,
        forwarder: rtrb::Consumer<Change>,
    }

    fn rig(file: &RefCell<String>) -> Rig<'_> {
        let first = config(&file.borrow()).unwrap();
        let (sender, forwarder) = change::ring();
        let asked = Arc::new(AtomicBool::new(false));
        let plan = FramePlan::new(&first);
        let live = Live::new(first, (plan, 1), Arc::clone(&asked), || config(&file.borrow()), sender);
        Rig { live, asked, forwarder }
    }

    impl Rig<'_> {
        fn ask(&mut self, taken: u64) -> Option<Outcome> {
            self.asked.store(true, Ordering::Relaxed);
            self.live.look(taken)
        }
    }

    #[test]
    fn it_is_in_force_when_the_forwarder_has_it_and_not_before() {
        let file = RefCell::new("rate = \"40Mbit\"".to_owned());
        let mut r = rig(&file);
        assert_eq!(r.live.look(0), None, "nobody asked");
        *file.borrow_mut() = "rate = \"10Mbit\"\nrate_right_to_left = \"40Mbit\"".to_owned();
        assert_eq!(r.ask(0), None);
        let change = r.forwarder.pop().unwrap();
        assert_eq!(change.number, 1);
        assert_eq!(change.egress.each_ref().map(|e| e.rate), [10, 40].map(BitRate::from_mbps));
        assert_eq!(change.egress[0].limit, LimitRule::Time(Span::from_millis(250)));
        assert_eq!(r.live.in_force().link.rate, BitRate::from_mbps(40));

        *file.borrow_mut() = "rate = \"10Mbit\"\nrate_right_to_left = \"20Mbit\"".to_owned();
        assert_eq!(r.ask(0), None, "one after the other");
        assert!(r.forwarder.is_empty());
        let done = r.live.look(1).unwrap();
        assert_eq!(
            done,
            Outcome { reload: Reload::Applied, message: "link.rate 40Mbit to 10Mbit".to_owned() }
        );
        assert_eq!(r.live.in_force().link.rate, BitRate::from_mbps(10));
        assert_eq!(r.live.look(1), None);
        assert_eq!(r.forwarder.pop().unwrap().number, 2);
        assert_eq!(r.live.look(2).unwrap().message, "link.rate_right_to_left 40Mbit to 20Mbit");
        assert_eq!(r.ask(2).unwrap().reload, Reload::Unchanged);
        assert_eq!(r.live.look(2), None);
    }

    #[test]
    fn what_is_wrong_or_fixed_changes_nothing() {
        let file = RefCell::new("rate = \"40Mbit\"".to_owned());
        let mut r = rig(&file);
        let before = r.live.in_force().clone();
        for (keys, reload, said) in [
            ("rate = \"10Mbit\"\nmpu = 999", Reload::Invalid, "l4sd.toml:7:7: link.mpu: 999 is out of range"),
            ("rate = \"10Mbit", Reload::Invalid, "l4sd.toml:6:"),
            (
                "rate = \"10Mbit\"\n[runtime]\ncores = [0]\n[aqm]\npolicy = \"codel\"",
                Reload::Refused,
                "aqm.policy, runtime.cores cannot change while it runs; nothing was changed; restart to change it",
            ),
            // 40 Mbit/s takes 8192 frames a direction; 250 ms of 1 Gbit/s are 20,641 full-size ones.
            (
                "rate = \"40Mbit\"\nrate_right_to_left = \"1Gbit\"",
                Reload::Refused,
                "link.rate_right_to_left (1Gbit needs more buffers than were taken at the start) cannot change",
            ),
            (
                "rate = \"40Mbit\"\nlimit = \"20MB\"",
                Reload::Refused,
                "link.limit (20000000B needs more buffers",
            ),
        ] {
            *file.borrow_mut() = keys.to_owned();
            let outcome = r.ask(0).unwrap();
            assert_eq!(outcome.reload, reload, "{keys}: {outcome:?}");
            assert!(outcome.message.starts_with(said), "{keys}: {outcome:?}");
            assert!(r.forwarder.is_empty(), "{keys}");
            assert_eq!(*r.live.in_force(), before, "{keys}");
            assert_eq!(r.live.look(0), None, "said once");
        }
    }
}
