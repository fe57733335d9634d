//! The file of demonstrations: profiles of links, and which of them is like a link of which only the rate is known.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{ContextError, Demonstration, MOST, RECORDS, width};
use crate::telemetry::features::schema::Schema;

/// The layout of the file that this program understands.
const FORMAT: u32 = 1;
/// A profile of a rate that differs by more than this factor says nothing of a link.
pub const NEAR: f64 = 2.0;

/// What `context = "auto"` chooses among.
pub const LABEL: &str = "models/links.json (built in)";
const SHIPPED: &str = include_str!("../../../models/links.json");

/// A link and what was seen on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What people call it.
    pub name: String,
    /// Its rate in Mbit/s.
    pub rate_mbps: f64,
    /// One to [`MOST`] demonstrations.
    pub demonstrations: Vec<Demonstration>,
}

/// A file of profiles.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    format: u32,
    schema: String,
    #[serde(rename = "profiles")]
    links: Vec<Profile>,
}

impl Profiles {
    /// These profiles.
    pub fn new(profiles: Vec<Profile>, schema: &Schema) -> Self {
        Self { format: FORMAT, schema: schema.hash.clone(), links: profiles }
    }

    /// Reads and judges a file; `None` is the library that is built in.
    ///
    /// # Errors
    /// It cannot be read, is of another schema, or is no such file.
    pub fn open(file: Option<&Path>, schema: &Schema) -> Result<Self, ContextError> {
        let Some(path) = file else { return Self::parse(SHIPPED, Path::new(LABEL), schema) };
        let text = std::fs::read_to_string(path)
            .map_err(|source| ContextError::Io { file: path.to_owned(), source })?;
        Self::parse(&text, path, schema)
    }

    fn parse(text: &str, path: &Path, schema: &Schema) -> Result<Self, ContextError> {
        let wrong = |reason: String| ContextError::File { file: path.to_owned(), reason };
        let this: Self =
            serde_json::from_str(text).map_err(|e| wrong(format!("it is no file of demonstrations: {e}")))?;
        if this.format != FORMAT {
            return Err(wrong(format!("its format is {}; this program knows {FORMAT}", this.format)));
        }
        if this.schema != schema.hash {
            return Err(wrong(format!(
                "it was made for the feature schema {}, and this program has {}",
                this.schema, schema.hash
            )));
        }
        if this.links.is_empty() {
            return Err(wrong("it has no profile".to_owned()));
        }
        for profile in &this.links {
            let name = &profile.name;
            if !(profile.rate_mbps > 0.0 && profile.rate_mbps.is_finite()) {
                return Err(wrong(format!("profile '{name}' has the rate {}", profile.rate_mbps)));
            }
            let count = profile.demonstrations.len();
            if !(1..=MOST).contains(&count) {
                return Err(wrong(format!(
                    "profile '{name}' has {count} demonstrations; it has 1 to {MOST}"
                )));
            }
            let whole = |d: &Demonstration| {
                d.len() == RECORDS
                    && d.iter().all(|r| r.len() == width(schema) && r.iter().all(|x| x.is_finite()))
            };
            if !profile.demonstrations.iter().all(whole) {
                return Err(wrong(format!(
                    "a demonstration of profile '{name}' is not {RECORDS} records of {} finite numbers",
                    width(schema)
                )));
            }
        }
        Ok(this)
    }

    /// Writes the file.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn write(&self, path: &Path) -> Result<(), ContextError> {
        let io = |source| ContextError::Io { file: path.to_owned(), source };
        let text = serde_json::to_string(self).map_err(|e| io(e.into()))?;
        std::fs::write(path, text + "\n").map_err(io)
    }

    /// The profile whose rate is nearest to `mbps` by its logarithm; `None` if none is within a factor of [`NEAR`].
    pub fn nearest(&self, mbps: f64) -> Option<&Profile> {
        let apart = |p: &Profile| (p.rate_mbps / mbps).ln().abs();
        self.links
            .iter()
            .min_by(|a, b| apart(a).total_cmp(&apart(b)))
            .filter(|p| apart(p) <= NEAR.ln() + 1e-9)
    }

    /// All of them.
    pub fn all(&self) -> &[Profile] {
        &self.links
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(rate_mbps: f64) -> Profile {
        let record = vec![0.25; width(&Schema::embedded())];
        Profile { name: format!("{rate_mbps}"), rate_mbps, demonstrations: vec![vec![record; RECORDS]] }
    }

    /// sqrt(10 x 40) = 20 is the middle of 10 and 40.
    #[test]
    fn the_nearest_is_by_the_logarithm_and_within_a_factor_of_two() {
        let p = Profiles::new([10.0, 40.0].map(profile).into(), &Schema::embedded());
        let nearest = |mbps| p.nearest(mbps).map(|p| p.rate_mbps);
        assert_eq!([19.9, 20.1, 5.0, 80.0].map(nearest), [Some(10.0), Some(40.0), Some(10.0), Some(40.0)]);
        assert_eq!([4.9, 81.0].map(nearest), [None, None]);
    }

    #[test]
    fn what_is_written_is_read_and_anything_else_refused() {
        let schema = Schema::embedded();
        let p = Profiles::new(vec![profile(10.0)], &schema);
        let file = tempfile::NamedTempFile::new().unwrap();
        p.write(file.path()).unwrap();
        assert_eq!(Profiles::open(Some(file.path()), &schema).unwrap(), p);
        let text = std::fs::read_to_string(file.path()).unwrap();
        for (is, spoilt, message) in [
            (schema.hash.as_str(), "00", "the feature schema 00"),
            ("\"format\":1", "\"format\":9", "its format is 9"),
            ("\"rate_mbps\":10.0", "\"rate_mbps\":-1.0", "the rate -1"),
            ("[[0.25,", "[[", "12 records of 286 finite numbers"),
            ("\"name\"", "\"nom\"", "unknown field `nom`"),
        ] {
            let bad = text.replacen(is, spoilt, 1);
            let error = Profiles::parse(&bad, Path::new("x.json"), &schema).unwrap_err().to_string();
            assert!(error.starts_with("x.json: ") && error.contains(message), "{error}");
            assert!(error.ends_with("make it with 'l4sd model adapt RECORD'"), "{error}");
        }
        let none = Profiles::new(vec![], &schema);
        let text = serde_json::to_string(&none).unwrap();
        let error = Profiles::parse(&text, Path::new("x.json"), &schema).unwrap_err().to_string();
        assert!(error.contains("it has no profile"), "{error}");
    }

    #[test]
    fn the_library_that_is_built_in_can_be_read() {
        let library = Profiles::open(None, &Schema::embedded()).unwrap();
        let rates: Vec<f64> = library.all().iter().map(|p| p.rate_mbps).collect();
        assert!(rates.len() > 1 && rates.is_sorted(), "{rates:?}");
    }
}
