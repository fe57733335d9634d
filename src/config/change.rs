//! What two configurations differ in, key by key, and which of it a running forwarder can take over.

use std::fmt;

use super::{AqmConfig, Config, ControlConfig, Limit, LinkConfig, LogConfig, Policy, RuntimeConfig};

/// A key that a running forwarder can change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// Full name of the key.
    pub key: &'static str,
    /// What it was, as the user would write it.
    pub from: String,
    /// What it is to be.
    pub to: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} to {}", self.key, self.from, self.to)
    }
}

/// Everything that differs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// What can change while frames are forwarded.
    pub live: Vec<Difference>,
    /// Keys that are fixed at the start, each perhaps with a reason.
    pub fixed: Vec<String>,
}

/// A change that only a restart brings.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{} cannot change while it runs; nothing was changed; restart to change it", .0.join(", "))]
pub struct Fixed(pub Vec<String>);

impl Changes {
    /// From `old` to `new`. A key that was left to its default differs only if the default does.
    pub fn between(old: &Config, new: &Config) -> Self {
        let mut changes = Self::default();
        // Taken apart completely, so that a new field is either compared here or not compiled.
        let Config { left, right, link, aqm, control, runtime, metrics_listen, log } = old;
        changes.fix("left.port", *left != new.left);
        changes.fix("right.port", *right != new.right);
        changes.link(link, &new.link);
        changes.aqm(aqm, &new.aqm);
        changes.control(control, &new.control);
        changes.runtime(runtime, &new.runtime);
        changes.fix("metrics.listen", *metrics_listen != new.metrics_listen);
        changes.log(*log, new.log);
        changes
    }

    /// All of it, if a running forwarder can take over all of it.
    pub fn live(self) -> Result<Vec<Difference>, Fixed> {
        if self.fixed.is_empty() { Ok(self.live) } else { Err(Fixed(self.fixed)) }
    }

    fn link(&mut self, old: &LinkConfig, new: &LinkConfig) {
        let LinkConfig { rate, rate_right_to_left, overhead, mpu, limit, delay } = *old;
        let text = |limit: Option<Limit>| limit.map_or_else(|| "default".to_owned(), |l| l.to_string());
        self.free("link.rate", &rate, &new.rate);
        self.free("link.rate_right_to_left", &rate_right_to_left, &new.rate_right_to_left);
        self.free("link.overhead", &overhead, &new.overhead);
        self.free("link.mpu", &mpu, &new.mpu);
        self.free("link.limit", &text(limit), &text(new.limit));
        self.fix("link.delay", delay != new.delay);
    }

    fn aqm(&mut self, old: &AqmConfig, new: &AqmConfig) {
        let AqmConfig { policy, target, t_update, nqb } = old;
        if is_rfc9332(policy) && is_rfc9332(&new.policy) {
            self.free("aqm.policy", policy, &new.policy);
        } else {
            self.fix("aqm.policy", *policy != new.policy);
        }
        let text = |c: &AqmConfig| c.target.map_or_else(|| "default".to_owned(), |target| target.to_string());
        if *target != new.target {
            self.free("aqm.target", &text(old), &text(new));
        }
        self.fix("aqm.t_update", *t_update != new.t_update);
        self.fix("aqm.nqb", *nqb != new.nqb);
    }

    fn control(&mut self, old: &ControlConfig, new: &ControlConfig) {
        let ControlConfig { model, model_sha256, onnxruntime, context, shadow, core, t_expire } = old;
        self.fix("control.model", *model != new.model);
        self.fix("control.model_sha256", *model_sha256 != new.model_sha256);
        self.fix("control.onnxruntime", *onnxruntime != new.onnxruntime);
        self.fix("control.context", *context != new.context);
        self.fix("control.shadow", *shadow != new.shadow);
        self.fix("control.core", *core != new.core);
        self.fix("control.t_expire", *t_expire != new.t_expire);
    }

    fn runtime(&mut self, old: &RuntimeConfig, new: &RuntimeConfig) {
        let RuntimeConfig { cores, sched, busy_poll, pidfile, netmap_emulated, keeper, user } = old;
        self.fix("runtime.cores", *cores != new.cores);
        self.fix("runtime.sched", *sched != new.sched);
        self.fix("runtime.busy_poll", *busy_poll != new.busy_poll);
        self.fix("runtime.pidfile", *pidfile != new.pidfile);
        self.fix("runtime.netmap_emulated", *netmap_emulated != new.netmap_emulated);
        self.fix("runtime.keeper", *keeper != new.keeper);
        self.fix("runtime.user", *user != new.user);
    }

    fn log(&mut self, old: LogConfig, new: LogConfig) {
        let LogConfig { format, level } = old;
        self.fix("log.format", format != new.format);
        self.free("log.level", level.label(), new.level.label());
    }

    fn fix(&mut self, key: &'static str, differs: bool) {
        if differs {
            self.fixed.push(key.to_owned());
        }
    }

    fn free<T: PartialEq + ToString + ?Sized>(&mut self, key: &'static str, from: &T, to: &T) {
        if from != to {
            self.live.push(Difference { key, from: from.to_string(), to: to.to_string() });
        }
    }
}

/// The same discipline with other constants.
const fn is_rfc9332(policy: &Policy) -> bool {
    matches!(policy, Policy::DualPi2 | Policy::DualPi2With(_) | Policy::DualPi2Tuned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{KEYS, Settings};

    const BASE: &str =
        "[left]\nport = \"packet:a\"\n[right]\nport = \"packet:b\"\n[link]\nrate = \"40Mbit\"\n";

    fn config(text: &str) -> Config {
        Settings::from_toml(text, "test").unwrap().validate().unwrap()
    }

    fn between(old: &str, new: &str) -> (String, String) {
        let changes = Changes::between(&config(old), &config(new));
        let live: Vec<_> = changes.live.iter().map(ToString::to_string).collect();
        (live.join(", "), changes.fixed.join(", "))
    }

    /// Every key there is, with what a change of it alone amounts to.
    #[test]
    fn each_key_is_either_live_or_fixed() {
        let cases = [
            ("left.port", BASE.replace("packet:a", "packet:c"), ""),
            ("right.port", BASE.replace("packet:b", "packet:c"), ""),
            (
                "link.rate",
                BASE.replace("40Mbit", "10Mbit"),
                "link.rate 40Mbit to 10Mbit, link.rate_right_to_left 40Mbit to 10Mbit",
            ),
            (
                "link.rate_right_to_left",
                format!("{BASE}rate_right_to_left = \"1Mbit\""),
                "link.rate_right_to_left 40Mbit to 1Mbit",
            ),
            ("link.overhead", format!("{BASE}overhead = 24"), "link.overhead 0 to 24"),
            ("link.mpu", format!("{BASE}mpu = 84"), "link.mpu 0 to 84"),
            ("link.limit", format!("{BASE}limit = \"2MB\""), "link.limit default to 2000000B"),
            ("link.delay", format!("{BASE}delay = \"5ms\""), ""),
            ("aqm.policy", format!("{BASE}[aqm]\npolicy = \"codel\""), ""),
            ("aqm.target", format!("{BASE}[aqm]\ntarget = \"5ms\""), "aqm.target default to 5ms"),
            ("aqm.t_update", format!("{BASE}[aqm]\nt_update = \"8ms\"\n[control]\nt_expire = \"32ms\""), ""),
            ("aqm.nqb", format!("{BASE}[aqm]\nnqb = true"), ""),
            ("control.model", format!("{BASE}[control]\nmodel = \"m.onnx\""), ""),
            ("control.model_sha256", format!("{BASE}[control]\nmodel_sha256 = \"{}\"", "0".repeat(64)), ""),
            ("control.onnxruntime", format!("{BASE}[control]\nonnxruntime = \"o.so\""), ""),
            ("control.context", format!("{BASE}[control]\ncontext = \"auto\""), ""),
            ("control.shadow", format!("{BASE}[control]\nshadow = true"), ""),
            ("control.core", format!("{BASE}[control]\ncore = 1"), ""),
            ("control.t_expire", format!("{BASE}[control]\nt_expire = \"8ms\""), ""),
            ("runtime.cores", format!("{BASE}[runtime]\ncores = [1]"), ""),
            ("runtime.sched", format!("{BASE}[runtime]\nsched = \"fifo:1\""), ""),
            ("runtime.busy_poll", format!("{BASE}[runtime]\nbusy_poll = true"), ""),
            ("runtime.pidfile", format!("{BASE}[runtime]\npidfile = \"p\""), ""),
            ("runtime.netmap_emulated", format!("{BASE}[runtime]\nnetmap_emulated = true"), ""),
            ("runtime.keeper", format!("{BASE}[runtime]\nkeeper = \"/run/k\""), ""),
            ("runtime.user", format!("{BASE}[runtime]\nuser = \"nobody\""), ""),
            ("metrics.listen", format!("{BASE}[metrics]\nlisten = \"off\""), ""),
            ("log.format", format!("{BASE}[log]\nformat = \"json\""), ""),
            ("log.level", format!("{BASE}[log]\nlevel = \"debug\""), "log.level info to debug"),
        ];
        for (key, text, live) in &cases {
            let fixed = if live.is_empty() { *key } else { "" };
            assert_eq!(between(BASE, text), ((*live).to_owned(), fixed.to_owned()), "{key}");
        }
        let apart: Vec<_> = KEYS.iter().filter(|k| !cases.iter().any(|c| c.0 == k.name)).collect();
        assert_eq!(apart.iter().map(|k| k.name).collect::<Vec<_>>(), ["version"]);
        assert_eq!(between(BASE, BASE), (String::new(), String::new()));
    }

    #[test]
    fn constants_of_rfc_9332_are_live_and_its_name_is_not() {
        let policy = |name: &str| format!("{BASE}[aqm]\npolicy = \"{name}\"");
        let (old, new) = (policy("dualpi2"), policy("dualpi2:target=5ms:ramp=2ms"));
        assert_eq!(between(&old, &new).0, "aqm.policy dualpi2 to dualpi2:target=5ms:ramp=2000us");
        assert_eq!(between(&new, &policy("dualpi2-tuned")).1, "");
        for other in ["dualpi2-linux", "pi2", "replay:a.csv"] {
            assert_eq!(between(&old, &policy(other)).1, "aqm.policy");
            assert_eq!(between(&policy(other), &policy(other)), (String::new(), String::new()));
        }
    }

    #[test]
    fn a_refusal_names_every_fixed_key_and_the_fix() {
        let new = format!("{BASE}overhead = 4\n[runtime]\ncores = [1]\n[log]\nformat = \"json\"");
        let changes = Changes::between(&config(BASE), &config(&new));
        assert_eq!(changes.live.len(), 1);
        assert_eq!(
            changes.live().unwrap_err().to_string(),
            "runtime.cores, log.format cannot change while it runs; nothing was changed; restart to change it"
        );
    }
}
