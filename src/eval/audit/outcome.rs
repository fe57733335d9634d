//! What an audit says: a line for each check, JSON, CSV.

use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::eval::bootstrap::Interval;

/// What a figure must be.
#[derive(Copy, Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// Less than this.
    Below(f64),
}

impl Limit {
    fn holds(self, x: f64) -> bool {
        match self {
            Self::AtMost(limit) => x <= limit,
            Self::AtLeast(limit) => x >= limit,
            Self::Below(limit) => x < limit,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(x) => write!(f, "<= {x}"),
            Self::AtLeast(x) => write!(f, ">= {x}"),
            Self::Below(x) => write!(f, "< {x}"),
        }
    }
}

/// A figure of a check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// It; `null` if no link has it.
    pub value: Option<f64>,
    /// 95 % interval, if it is a statistic over links.
    pub lo: Option<f64>,
    /// Its other end.
    pub hi: Option<f64>,
    /// What it must be, if anything.
    pub limit: Option<Limit>,
    /// Whether it is; `null` without a limit or a value.
    pub passed: Option<bool>,
}

impl Figure {
    /// A figure without an interval.
    pub fn plain(name: impl Into<String>, value: Option<f64>, limit: Option<Limit>) -> Self {
        let passed = value.zip(limit).map(|(x, limit)| limit.holds(x));
        Self { name: name.into(), value, lo: None, hi: None, limit, passed }
    }

    /// A figure with its interval.
    pub fn of(name: impl Into<String>, interval: Option<Interval>, limit: Option<Limit>) -> Self {
        let plain = Self::plain(name, interval.map(|i| i.value), limit);
        Self { lo: interval.map(|i| i.lo), hi: interval.map(|i| i.hi), ..plain }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.value, self.lo.zip(self.hi)) {
            (Some(x), Some((lo, hi))) => write!(f, "{} {x:.3} ({lo:.3} to {hi:.3})", self.name)?,
            (Some(x), None) => write!(f, "{} {x:.3}", self.name)?,
            (None, _) => write!(f, "{} -", self.name)?,
        }
        self.limit.map_or(Ok(()), |limit| write!(f, " [{limit}]"))
    }
}

/// One of the eight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Its number in Roman figures.
    pub number: &'static str,
    /// Its name.
    pub name: &'static str,
    /// All its figures that have a limit keep it; `null` if no link has any of them.
    pub passed: Option<bool>,
    /// What was measured.
    pub figures: Vec<Figure>,
}

impl Check {
    /// From its figures.
    pub fn new(number: &'static str, name: &'static str, figures: Vec<Figure>) -> Self {
        let mut held = figures.iter().filter_map(|f| f.passed).peekable();
        let passed = held.peek().is_some().then(|| held.all(|p| p));
        Self { number, name, passed, figures }
    }
}

/// All checks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Audit {
    /// How many links.
    pub links: usize,
    /// Seeds of each.
    pub seeds: u64,
    /// The eight.
    pub checks: Vec<Check>,
}

impl Audit {
    /// How many checks fail.
    pub fn failed(&self) -> usize {
        self.checks.iter().filter(|c| c.passed == Some(false)).count()
    }

    /// A line for each check.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for c in &self.checks {
            let verdict = match c.passed {
                Some(true) => "PASS",
                Some(false) => "FAIL",
                None => "SKIP",
            };
            let figures: Vec<_> = c.figures.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "{verdict} ({}) {}: {}", c.number, c.name, figures.join("; "));
        }
        text
    }

    /// A row for each figure.
    pub fn csv(&self) -> String {
        let number = |x: Option<f64>| x.map_or(String::new(), |x| x.to_string());
        let mut csv = "check,name,figure,value,lo,hi,limit,passed\n".to_owned();
        for c in &self.checks {
            for f in &c.figures {
                let limit = f.limit.map_or(String::new(), |l| l.to_string());
                let passed = f.passed.map_or("", |p| if p { "true" } else { "false" });
                let [value, lo, hi] = [f.value, f.lo, f.hi].map(number);
                let name = f.name.replace(',', "");
                let _ = writeln!(csv, "{},{},{name},{value},{lo},{hi},{limit},{passed}", c.number, c.name);
            }
        }
        csv
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_fails_with_one_figure_and_is_skipped_without_any() {
        let at = |x: Option<f64>| Figure::plain("x", x, Some(Limit::Below(0.6)));
        let told = Figure::plain("y", Some(9.0), None);
        let check = |figures| Check::new("i", "freeze", figures);
        assert_eq!(check(vec![at(Some(0.5)), told.clone(), at(None)]).passed, Some(true));
        assert_eq!(check(vec![at(Some(0.5)), at(Some(0.6))]).passed, Some(false));
        assert_eq!(check(vec![at(None), told]).passed, None);
    }

    #[test]
    fn lines_and_rows() {
        let interval = Interval { value: 0.85, lo: 0.8, hi: 0.9 };
        let figures = vec![Figure::of("S, a", Some(interval), Some(Limit::AtMost(0.9)))];
        let audit = Audit { links: 2, seeds: 1, checks: vec![Check::new("i", "freeze", figures)] };
        assert_eq!(audit.text(), "PASS (i) freeze: S, a 0.850 (0.800 to 0.900) [<= 0.9]\n");
        assert!(audit.csv().ends_with("\ni,freeze,S a,0.85,0.8,0.9,<= 0.9,true\n"), "{}", audit.csv());
        assert_eq!(audit.failed(), 0);
    }
}
