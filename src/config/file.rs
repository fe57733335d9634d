//! The file's form: TOML text to [`Settings`], with the place of everything.

use std::ops::Range;
use std::path::PathBuf;

use serde::de::{Deserialize, Deserializer, Error as _};
use toml::de::{DeTable, DeValue};

use super::settings::{KEYS, Places, key, value_error};
use super::text::{Text, Time};
use super::{ConfigError, Place, Settings};
use crate::units::BitRate;

/// The only version of the file's form.
const VERSION: i64 = 1;

macro_rules! sections {
    ($($name:ident { $($field:ident: $ty:ty),+ $(,)? })+) => {$(
        #[derive(Default, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct $name { $($field: Option<$ty>),+ }
    )+};
}

sections! {
    File {
        version: Version, left: Port, right: Port, link: Link, aqm: Aqm, control: Control, runtime: Runtime,
        metrics: Metrics, log: Log,
    }
    Port { port: Text<super::PortSpec> }
    Link {
        rate: Text<BitRate>, rate_right_to_left: Text<BitRate>, overhead: i64, mpu: i64,
        limit: Text<super::Limit>, delay: Text<Time>,
    }
    Aqm { policy: Text<super::Policy>, target: Text<Time>, t_update: Text<Time>, nqb: bool }
    Control {
        model: PathBuf, model_sha256: String, onnxruntime: PathBuf, context: Text<super::Context>, shadow: bool, core: i64,
        t_expire: Text<Time>,
    }
    Runtime {
        cores: Vec<i64>, sched: Text<super::Sched>, busy_poll: bool, pidfile: PathBuf, netmap_emulated: bool,
        keeper: PathBuf, user: String,
    }
    Metrics { listen: Text<super::Listen> }
    Log { format: Text<super::LogFormat>, level: Text<super::LogLevel> }
}

struct Version;

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match i64::deserialize(d)? {
            VERSION => Ok(Self),
            other => Err(D::Error::custom(format!(
                "version {other} is not known; this l4sd reads version {VERSION}"
            ))),
        }
    }
}

/// One key or section header as it stands in the text; spans are byte ranges.
struct Entry {
    path: String,
    key: Range<usize>,
    value: Range<usize>,
}

fn entries(table: &DeTable<'_>, prefix: &str, out: &mut Vec<Entry>) {
    for (name, value) in table {
        let path = if prefix.is_empty() {
            name.get_ref().to_string()
        } else {
            format!("{prefix}.{}", name.get_ref())
        };
        if let DeValue::Table(inner) = value.get_ref() {
            entries(inner, &path, out);
        }
        out.push(Entry { path, key: name.span(), value: value.span() });
    }
}

fn place(text: &str, file: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Place {
        file: file.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

/// The keys that may stand where the unknown key `path` stands.
fn known(path: &str) -> String {
    let section = path.split_once('.').map_or("", |(section, _)| section);
    let leaves: Vec<_> = KEYS.iter().filter(|k| k.section() == section).map(|k| k.leaf()).collect();
    if section.is_empty() || leaves.is_empty() {
        let mut sections: Vec<_> = KEYS.iter().map(|k| k.section()).filter(|s| !s.is_empty()).collect();
        sections.dedup();
        return format!(
            "the sections are [{}], and 'version = {VERSION}' stands before them",
            sections.join("], [")
        );
    }
    format!("[{section}] takes {}", leaves.join(", "))
}

fn explain(text: &str, name: &str, entries: &[Entry], error: &toml::de::Error) -> ConfigError {
    let at = error.span().map_or(0, |span| span.start);
    let here = |offset| place(text, name, offset);
    if error.message().starts_with("unknown field") {
        let path = entries.iter().find(|e| e.key.start == at).map_or("?", |e| &e.path);
        return ConfigError::UnknownKey { place: here(at), key: path.to_owned(), known: known(path) };
    }
    let entry = entries.iter().find(|e| e.value.contains(&at) && key(&e.path).is_some());
    if let Some(k) = entry.and_then(|e| key(&e.path)) {
        return value_error(Some(here(at)), k.name, error.message().to_owned());
    }
    let section = entries.iter().find(|e| e.value.contains(&at)).map_or("?", |e| &e.path);
    ConfigError::UnknownKey {
        place: here(at),
        key: section.to_owned(),
        known: format!("{section} is a section: write [{section}] on a line of its own and its keys below"),
    }
}

fn value<T>(text: Option<Text<T>>) -> Option<T> {
    text.map(|t| t.0)
}

/// Reads the text of a file that errors call `name`.
pub(super) fn read(text: &str, name: &str) -> Result<Settings, ConfigError> {
    let table = DeTable::parse(text).map_err(|e| ConfigError::Syntax {
        place: place(text, name, e.span().map_or(0, |span| span.start)),
        reason: e.message().to_owned(),
    })?;
    let mut found = Vec::new();
    entries(table.get_ref(), "", &mut found);
    let file: File = toml::from_str(text).map_err(|e| explain(text, name, &found, &e))?;
    let places = found
        .iter()
        .filter_map(|e| key(&e.path).map(|k| (k.name, place(text, name, e.value.start))))
        .collect();
    let time = |text: Option<Text<Time>>| text.map(|t| t.0.0);
    let (link, aqm) = (file.link.unwrap_or_default(), file.aqm.unwrap_or_default());
    let (control, runtime) = (file.control.unwrap_or_default(), file.runtime.unwrap_or_default());
    let log = file.log.unwrap_or_default();
    Ok(Settings {
        left: value(file.left.unwrap_or_default().port),
        right: value(file.right.unwrap_or_default().port),
        rate: value(link.rate),
        rate_right_to_left: value(link.rate_right_to_left),
        overhead: link.overhead,
        mpu: link.mpu,
        limit: value(link.limit),
        delay: time(link.delay),
        policy: value(aqm.policy),
        target: time(aqm.target),
        t_update: time(aqm.t_update),
        nqb: aqm.nqb,
        model: control.model,
        model_sha256: control.model_sha256,
        onnxruntime: control.onnxruntime,
        context: value(control.context),
        shadow: control.shadow,
        core: control.core,
        t_expire: time(control.t_expire),
        cores: runtime.cores,
        sched: value(runtime.sched),
        busy_poll: runtime.busy_poll,
        pidfile: runtime.pidfile,
        netmap_emulated: runtime.netmap_emulated,
        keeper: runtime.keeper,
        user: runtime.user,
        listen: value(file.metrics.unwrap_or_default().listen),
        log_format: value(log.format),
        log_level: value(log.level),
        places: Places(places),
    })
}
