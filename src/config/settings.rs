//! Settings: every key optional, from whatever source, before they are known to make sense together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{
    AqmConfig, Config, ConfigError, Context, ControlConfig, Limit, LinkConfig, Listen, LogConfig, LogFormat,
    LogLevel, Place, Policy, PortSpec, RuntimeConfig, Sched, file,
};
use crate::time::Span;
use crate::units::BitRate;

/// A key of the configuration file.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Key {
    /// Section and name, as in `link.rate`; `version` stands before all sections.
    pub name: &'static str,
    /// A value that works, as TOML.
    pub example: &'static str,
}

impl Key {
    /// The part after the section.
    pub fn leaf(self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// The part before the dot; empty for `version`.
    pub fn section(self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }
}

/// Every key there is, in the order of the sample file.
pub const KEYS: [Key; 30] = [
    Key { name: "version", example: "1" },
    Key { name: "left.port", example: "\"packet:eth0\"" },
    Key { name: "right.port", example: "\"packet:eth1\"" },
    Key { name: "link.rate", example: "\"40Mbit\"" },
    Key { name: "link.rate_right_to_left", example: "\"10Mbit\"" },
    Key { name: "link.overhead", example: "24" },
    Key { name: "link.mpu", example: "84" },
    Key { name: "link.limit", example: "\"250ms\"" },
    Key { name: "link.delay", example: "\"10ms\"" },
    Key { name: "aqm.policy", example: "\"dualpi2\"" },
    Key { name: "aqm.target", example: "\"15ms\"" },
    Key { name: "aqm.t_update", example: "\"16ms\"" },
    Key { name: "aqm.nqb", example: "true" },
    Key { name: "control.model", example: "\"/usr/local/share/l4sd/student.onnx\"" },
    Key {
        name: "control.model_sha256",
        example: "\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"",
    },
    Key { name: "control.onnxruntime", example: "\"/usr/local/lib/libonnxruntime.so\"" },
    Key { name: "control.context", example: "\"/usr/local/etc/l4sd/context.json\"" },
    Key { name: "control.shadow", example: "true" },
    Key { name: "control.core", example: "3" },
    Key { name: "control.t_expire", example: "\"32ms\"" },
    Key { name: "runtime.cores", example: "[2]" },
    Key { name: "runtime.sched", example: "\"fifo:40\"" },
    Key { name: "runtime.busy_poll", example: "true" },
    Key { name: "runtime.pidfile", example: "\"/var/run/l4sd.pid\"" },
    Key { name: "runtime.netmap_emulated", example: "true" },
    Key { name: "runtime.keeper", example: "\"/var/run/l4sd-keeper.sock\"" },
    Key { name: "runtime.user", example: "\"nobody\"" },
    Key { name: "metrics.listen", example: "\"127.0.0.1:9559\"" },
    Key { name: "log.format", example: "\"json\"" },
    Key { name: "log.level", example: "\"info\"" },
];

/// The entry of [`KEYS`] with this full name.
pub(super) fn key(name: &str) -> Option<Key> {
    KEYS.into_iter().find(|k| k.name == name)
}

/// Where values stand, by full name of their key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Places(pub(super) BTreeMap<&'static str, Place>);

/// What one source (the file, the flags) says; `None` where it says nothing. Numbers are as written: ranges are
/// checked by [`Settings::validate`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `left.port`
    pub left: Option<PortSpec>,
    /// `right.port`
    pub right: Option<PortSpec>,
    /// `link.rate`
    pub rate: Option<BitRate>,
    /// `link.rate_right_to_left`
    pub rate_right_to_left: Option<BitRate>,
    /// `link.overhead` in bytes
    pub overhead: Option<i64>,
    /// `link.mpu` in bytes
    pub mpu: Option<i64>,
    /// `link.limit`
    pub limit: Option<Limit>,
    /// `link.delay`
    pub delay: Option<Span>,
    /// `aqm.policy`
    pub policy: Option<Policy>,
    /// `aqm.target`
    pub target: Option<Span>,
    /// `aqm.t_update`
    pub t_update: Option<Span>,
    /// `aqm.nqb`
    pub nqb: Option<bool>,
    /// `control.model`
    pub model: Option<PathBuf>,
    /// `control.model_sha256`
    pub model_sha256: Option<String>,
    /// `control.onnxruntime`
    pub onnxruntime: Option<PathBuf>,
    /// `control.context`
    pub context: Option<Context>,
    /// `control.shadow`
    pub shadow: Option<bool>,
    /// `control.core`
    pub core: Option<i64>,
    /// `control.t_expire`
    pub t_expire: Option<Span>,
    /// `runtime.cores`
    pub cores: Option<Vec<i64>>,
    /// `runtime.sched`
    pub sched: Option<Sched>,
    /// `runtime.busy_poll`
    pub busy_poll: Option<bool>,
    /// `runtime.pidfile`
    pub pidfile: Option<PathBuf>,
    /// `runtime.netmap_emulated`
    pub netmap_emulated: Option<bool>,
    /// `runtime.keeper`
    pub keeper: Option<PathBuf>,
    /// `runtime.user`
    pub user: Option<String>,
    /// `metrics.listen`
    pub listen: Option<Listen>,
    /// `log.format`
    pub log_format: Option<LogFormat>,
    /// `log.level`
    pub log_level: Option<LogLevel>,
    /// Where in a file the values stand; empty for flags.
    pub places: Places,
}

impl Settings {
    /// Reads a configuration file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { file: name.clone(), source })?;
        Self::from_toml(&text, &name)
    }

    /// Reads the text of a configuration file; `name` is what errors call it.
    pub fn from_toml(text: &str, name: &str) -> Result<Self, ConfigError> {
        file::read(text, name)
    }

    /// Puts what `over` says in place of what these settings say, key by key.
    pub fn merge(&mut self, mut over: Self) {
        macro_rules! take {
            ($($field:ident: $key:literal),+ $(,)?) => {$(
                if over.$field.is_some() {
                    self.$field = over.$field.take();
                    match over.places.0.remove($key) {
                        Some(place) => self.places.0.insert($key, place),
                        None => self.places.0.remove($key),
                    };
                }
            )+};
        }
        take! {
            left: "left.port", right: "right.port", rate: "link.rate", rate_right_to_left: "link.rate_right_to_left",
            overhead: "link.overhead", mpu: "link.mpu", limit: "link.limit", delay: "link.delay",
            policy: "aqm.policy", target: "aqm.target", t_update: "aqm.t_update", nqb: "aqm.nqb",
            model: "control.model", model_sha256: "control.model_sha256", onnxruntime: "control.onnxruntime",
            context: "control.context",
            shadow: "control.shadow", core: "control.core", t_expire: "control.t_expire",
            cores: "runtime.cores", sched: "runtime.sched", busy_poll: "runtime.busy_poll",
            pidfile: "runtime.pidfile", netmap_emulated: "runtime.netmap_emulated", keeper: "runtime.keeper",
            user: "runtime.user",
            listen: "metrics.listen", log_format: "log.format", log_level: "log.level",
        }
    }

    /// Fills in defaults and checks ranges and what must go together. Only the two ports and the rate have no
    /// default.
    pub fn validate(self) -> Result<Config, ConfigError> {
        let (left, right) = self.ports()?;
        let rate = self.rate.ok_or_else(|| missing("link.rate", "--rate"))?;
        let t_update = self.span("aqm.t_update", self.t_update, MS, SEC)?.unwrap_or(T_UPDATE);
        Ok(Config {
            left,
            right,
            link: LinkConfig {
                rate,
                rate_right_to_left: self.rate_right_to_left.unwrap_or(rate),
                overhead: self.number("link.overhead", self.overhead, -64, 256)?.unwrap_or(0) as i32,
                mpu: self.number("link.mpu", self.mpu, 0, 256)?.unwrap_or(0) as u32,
                limit: self.limit,
                delay: self
                    .span("link.delay", self.delay, Span::ZERO, Span::from_secs(10))?
                    .unwrap_or_default(),
            },
            aqm: AqmConfig {
                policy: self.policy()?,
                target: self.span("aqm.target", self.target, MS, SEC)?,
                t_update,
                nqb: self.nqb.unwrap_or(false),
            },
            control: ControlConfig {
                model: self.model.clone(),
                model_sha256: self.model_sha256()?,
                onnxruntime: self.onnxruntime.clone(),
                context: self.context.clone().unwrap_or_default(),
                shadow: self.shadow.unwrap_or(false),
                core: self.number("control.core", self.core, 0, CORE_MAX)?.map(|n| n as usize),
                t_expire: self
                    .span("control.t_expire", self.t_expire, MS, Span::from_secs(10))?
                    .unwrap_or(t_update + t_update),
            },
            runtime: RuntimeConfig {
                cores: self.cores()?,
                sched: self.sched.unwrap_or_default(),
                busy_poll: self.busy_poll.unwrap_or(false),
                pidfile: self.pidfile()?,
                netmap_emulated: self.netmap_emulated.unwrap_or(false),
                keeper: self.keeper()?,
                user: self.user()?,
            },
            metrics_listen: match self.listen {
                None => Some(DEFAULT_LISTEN),
                Some(Listen::Off) => None,
                Some(Listen::At(address)) => Some(address),
            },
            log: LogConfig {
                format: self.log_format.unwrap_or_default(),
                level: self.log_level.unwrap_or_default(),
            },
        })
    }

    fn place(&self, key: &str) -> Option<Place> {
        self.places.0.get(key).cloned()
    }

    fn ports(&self) -> Result<(PortSpec, PortSpec), ConfigError> {
        let left = self.left.clone().ok_or_else(|| missing("left.port", "--left"))?;
        let right = self.right.clone().ok_or_else(|| missing("right.port", "--right"))?;
        let reason = if left.kind() != right.kind() {
            "are of different kinds; give both sides the same kind, for example packet: and packet:"
        } else if left.is_same_port(&right) {
            "are the same port; a bridge needs two"
        } else {
            return Ok((left, right));
        };
        Err(ConfigError::Ports { place: self.place("right.port"), left, right, reason })
    }

    fn policy(&self) -> Result<Policy, ConfigError> {
        match &self.policy {
            Some(Policy::LookAhead(setup)) => {
                for (key, set) in [
                    ("control.model_sha256", self.model_sha256.is_some()),
                    ("control.context", self.context.as_ref().is_some_and(|c| *c != Context::None)),
                ] {
                    if set {
                        let reason =
                            "it is of the policy model; one that looks ahead has two models".to_owned();
                        return Err(self.bad(key, reason));
                    }
                }
                let setup = setup.on_a_bridge().map_err(|reason| self.bad("aqm.policy", reason))?;
                Ok(Policy::LookAhead(setup))
            }
            other => Ok(other.clone().unwrap_or(Policy::Model(None))),
        }
    }

    fn keeper(&self) -> Result<Option<PathBuf>, ConfigError> {
        match &self.keeper {
            Some(path) if !path.is_absolute() => {
                Err(self.bad("runtime.keeper", format!("'{}' is not an absolute path", path.display())))
            }
            other => Ok(other.clone()),
        }
    }

    fn cores(&self) -> Result<Vec<usize>, ConfigError> {
        let mut cores = Vec::new();
        for &core in self.cores.iter().flatten() {
            self.number("runtime.cores", Some(core), 0, CORE_MAX)?;
            if cores.contains(&(core as usize)) {
                return Err(self.bad("runtime.cores", format!("core {core} is listed twice")));
            }
            cores.push(core as usize);
        }
        Ok(cores)
    }

    fn pidfile(&self) -> Result<Option<PathBuf>, ConfigError> {
        if self.pidfile.as_ref().is_some_and(|p| p.file_name().is_none()) {
            return Err(self.bad("runtime.pidfile", "it does not name a file".to_owned()));
        }
        Ok(self.pidfile.clone())
    }

    fn user(&self) -> Result<Option<String>, ConfigError> {
        match &self.user {
            Some(name)
                if name.is_empty()
                    || name.len() > USER_MAX
                    || name
                        .contains(|c: char| c == ':' || c == '/' || c.is_whitespace() || c.is_control()) =>
            {
                Err(self.bad("runtime.user", format!("no user can be called '{name}'")))
            }
            user => Ok(user.clone()),
        }
    }

    fn model_sha256(&self) -> Result<Option<String>, ConfigError> {
        let Some(hash) = &self.model_sha256 else { return Ok(None) };
        if hash.len() == 64 && hash.chars().all(|c| c.is_ascii_hexdigit()) {
            return Ok(Some(hash.to_ascii_lowercase()));
        }
        Err(self.bad("control.model_sha256", format!("'{hash}' is not 64 hexadecimal digits")))
    }

    fn number(
        &self,
        key: &'static str,
        value: Option<i64>,
        min: i64,
        max: i64,
    ) -> Result<Option<i64>, ConfigError> {
        match value {
            Some(n) if !(min..=max).contains(&n) => {
                Err(self.bad(key, format!("{n} is out of range, {min} to {max}")))
            }
            other => Ok(other),
        }
    }

    fn span(
        &self,
        key: &'static str,
        value: Option<Span>,
        min: Span,
        max: Span,
    ) -> Result<Option<Span>, ConfigError> {
        match value {
            Some(span) if span < min || span > max => {
                Err(self.bad(key, format!("{span} is out of range, {min} to {max}")))
            }
            other => Ok(other),
        }
    }

    fn bad(&self, name: &'static str, reason: String) -> ConfigError {
        value_error(self.place(name), name, reason)
    }
}

const MS: Span = Span::from_millis(1);
const SEC: Span = Span::from_secs(1);
const T_UPDATE: Span = Span::from_millis(16);
/// Longest name of a user, as FreeBSD (MAXLOGNAME less one) and Linux' useradd have it.
const USER_MAX: usize = 32;
/// Linux' CPU_SETSIZE less one.
const CORE_MAX: i64 = 1023;
const DEFAULT_LISTEN: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9559);

/// The error for a value of the key `name`, which must be in [`KEYS`].
pub(super) fn value_error(place: Option<Place>, name: &'static str, reason: String) -> ConfigError {
    let (leaf, example) = key(name).map_or((name, "?"), |k| (k.leaf(), k.example));
    ConfigError::Value { place, key: name, reason, leaf, example }
}

fn missing(name: &'static str, flag: &'static str) -> ConfigError {
    let (section, leaf, example) = key(name).map_or(("", name, "?"), |k| (k.section(), k.leaf(), k.example));
    ConfigError::Missing { key: name, flag, section, leaf, example }
}
