//! A decision tree that people can read, as a policy (`--policy dualpi2-rules`, `models/rules.toml`): conditions on features in
//! the units of the schema's signals, settings at the leaves. `docs/rules.md` says how it was made and how it does.
//!
//! It states no normalisation: a threshold becomes a feature by [`Signal::normalise`](crate::telemetry::features::schema::Signal).

mod tree;

use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use self::tree::Tree;
use super::{Abstention, Policy};
use crate::aqm::params::Knobs;
use crate::telemetry::TelemetryWindow;
use crate::telemetry::features::extract::Extractor;
use crate::telemetry::features::schema::Schema;
use crate::time::{Instant, Span};

/// The file that this program was built with.
pub const EMBEDDED: &str = include_str!("../../../models/rules.toml");

/// The version of the format that this program understands.
pub const VERSION: u32 = 1;

/// Longest period and longest hold.
const MAX_S: f64 = 60.0;

/// Why a file of rules cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RulesError {
    /// It cannot be read.
    #[error("{file}: {reason}; check the path")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        reason: String,
    },
    /// It is not what is expected.
    #[error("{file}:{line}: {reason}")]
    Text {
        /// The file as the caller named it.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong there, and what to write instead.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: Spanned<u32>,
    schema: Spanned<String>,
    period_s: Spanned<f64>,
    hold_s: Spanned<f64>,
    tree: Spanned<String>,
}

/// A tree and how often it is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    tree: Tree,
    /// The tree as it is written in the file.
    pub text: String,
    /// The tree is asked this often.
    pub period: Span,
    /// Another setting takes over once the tree has wanted it, and nothing else, for this long.
    pub hold: Span,
}

impl Rules {
    /// The rules in `file`, or those that this program was built with.
    ///
    /// # Errors
    /// The file is missing, is not a tree, or was made for another schema.
    pub fn open(file: Option<&Path>, schema: &Schema) -> Result<Self, RulesError> {
        let Some(path) = file else { return Self::parse(EMBEDDED, "models/rules.toml", schema) };
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &name, schema),
            Err(e) => Err(RulesError::Read { file: name, reason: e.to_string() }),
        }
    }

    /// Reads the text of a file that errors call `name`.
    ///
    /// # Errors
    /// It is not a tree, or was made for another schema.
    pub fn parse(text: &str, name: &str, schema: &Schema) -> Result<Self, RulesError> {
        let line_of = |at: usize| text.get(..at).unwrap_or(text).matches('\n').count() + 1;
        let fault = |line, reason| RulesError::Text { file: name.to_owned(), line, reason };
        let file: File = toml::from_str(text)
            .map_err(|e| fault(line_of(e.span().map_or(0, |s| s.start)), e.message().to_owned()))?;
        if *file.version.get_ref() != VERSION {
            let reason =
                format!("version {} is not {VERSION}, which this program knows", file.version.get_ref());
            return Err(fault(line_of(file.version.span().start), reason));
        }
        if *file.schema.get_ref() != schema.hash {
            let reason = format!(
                "made for feature schema {}, and this program has {}; make it again with `make rules`",
                file.schema.get_ref(),
                schema.hash
            );
            return Err(fault(line_of(file.schema.span().start), reason));
        }
        let seconds = |x: &Spanned<f64>, what: &str, least: f64| {
            if (least..=MAX_S).contains(x.get_ref()) {
                Ok(Span::from_secs_f64(*x.get_ref()))
            } else {
                Err(fault(line_of(x.span().start), format!("{what} must be from {least} to {MAX_S} seconds")))
            }
        };
        let (period, hold) =
            (seconds(&file.period_s, "period_s", 0.001)?, seconds(&file.hold_s, "hold_s", 0.0)?);
        // The text of a multi-line string begins on the line after its quotes.
        let above = line_of(file.tree.span().start);
        let tree =
            Tree::parse(file.tree.get_ref(), schema).map_err(|(line, reason)| fault(above + line, reason))?;
        Ok(Self { tree, text: file.tree.into_inner(), period, hold })
    }
}

/// The policy of one direction.
#[derive(Debug)]
pub struct Ruled {
    rules: Rules,
    extractor: Extractor,
    features: Vec<f32>,
    next: Instant,
    held: Knobs,
    /// What the tree wants instead, and since when.
    wanted: Option<(Knobs, Instant)>,
}

impl Ruled {
    /// A policy that has seen nothing. `schema` must be the one that the rules were read with.
    pub fn new(rules: Rules, schema: &Schema) -> Self {
        let extractor = Extractor::new(schema);
        Self {
            rules,
            features: vec![0.0; extractor.width()],
            extractor,
            next: Instant::ZERO,
            held: Knobs::default(),
            wanted: None,
        }
    }

    /// The tree says `now` that it wants `knobs`.
    fn consider(&mut self, knobs: Knobs, now: Instant) {
        if knobs == self.held {
            self.wanted = None;
            return;
        }
        let since = match self.wanted {
            Some((same, since)) if same == knobs => since,
            _ => now,
        };
        self.wanted = Some((knobs, since));
        if now.since(since) >= self.rules.hold {
            (self.held, self.wanted) = (knobs, None);
        }
    }
}

impl Policy for Ruled {
    fn decide(&mut self, window: &TelemetryWindow, in_force: &Knobs) -> Result<Knobs, Abstention> {
        self.extractor.push(window, in_force);
        if window.id == 0 {
            (self.held, self.wanted, self.next) = (Knobs::default(), None, window.end);
        }
        if window.end >= self.next {
            self.next = (self.next + self.rules.period).max(window.end);
            self.extractor.write(&mut self.features);
            let knobs = self.rules.tree.setting(&self.features);
            self.consider(knobs, window.end);
        }
        Ok(self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(tree: &str) -> String {
        let hash = Schema::embedded().hash;
        format!("version = 1\nschema = \"{hash}\"\nperiod_s = 0.128\nhold_s = 0.5\ntree = '''\n{tree}'''\n")
    }

    const LEAF: &str = "target 5 ms, gain 1, ramp 0.8 ms\n";

    #[test]
    fn the_embedded_rules_are_of_todays_schema_and_small() {
        let rules = Rules::open(None, &Schema::embedded()).unwrap();
        assert!(rules.tree.leaves() <= 20 && rules.tree.depth() <= 6, "{}", rules.text);
    }

    #[test]
    fn the_page_shows_the_tree_that_is_built_in() {
        let rules = Rules::open(None, &Schema::embedded()).unwrap();
        let page = include_str!("../../../docs/rules.md");
        assert!(page.contains(&format!("```text\n{}```\n", rules.text)), "docs/rules.md has another tree");
    }

    #[test]
    fn bad_files_say_what_is_wrong_and_where() {
        let good = text(LEAF);
        let schema = Schema::embedded();
        assert!(Rules::parse(&good, "r", &schema).is_ok());
        let old = "0".repeat(64);
        for (from, to, part) in [
            ("version = 1", "version = 2", "r:1: version 2 is not 1"),
            (schema.hash.as_str(), old.as_str(), "r:2: made for feature schema 0000"),
            ("0.128", "0", "r:3: period_s must be from 0.001 to 60"),
            ("0.5", "-1", "r:4: hold_s must be from 0 to 60"),
            ("0.5", "nan", "r:4: hold_s must"),
            ("hold_s", "held_s", "r:4: unknown field `held_s`"),
            ("target 5 ms", "target 50 ms", "r:6: target must be from 1 ms to 25 ms"),
        ] {
            let message = Rules::parse(&good.replace(from, to), "r", &schema).unwrap_err().to_string();
            assert!(message.starts_with(part), "{message}");
        }
        let message = Rules::open(Some(Path::new("nowhere.toml")), &schema).unwrap_err().to_string();
        assert!(message.starts_with("nowhere.toml: "), "{message}");
    }

    /// Hold of .5 s, asked each 128 ms: a wish of four periods is followed, one that is interrupted is not.
    #[test]
    fn a_setting_takes_over_once_it_was_wanted_long_enough() {
        let schema = Schema::embedded();
        let mut policy = Ruled::new(Rules::parse(&text(LEAF), "r", &schema).unwrap(), &schema);
        let five = Knobs { target: Span::from_millis(5), ..Knobs::default() };
        let ten = Knobs { target: Span::from_millis(10), ..Knobs::default() };
        let wishes = [five, five, five, ten, five, five, five, five, five, ten];
        let held: Vec<u64> = (0..)
            .zip(wishes)
            .map(|(i, knobs)| {
                policy.consider(knobs, Instant::from_millis(128 * i));
                policy.held.target.as_nanos() / 1_000_000
            })
            .collect();
        assert_eq!(held, [15, 15, 15, 15, 15, 15, 15, 15, 5, 5]);
    }
}
