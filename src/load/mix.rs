//! What the frames of a load are: sizes, codepoints and IP versions by weight, and how many flows.

use core::fmt;
use core::str::FromStr;

use super::FCS;
use super::stamp;
use crate::wire::Ecn;
use crate::wire::build::{FLOWS, IpVersion};

/// The sizes of a sweep: Ethernet's of RFC 2544 §9.1, with FCS.
pub const SIZES: [u16; 7] = [64, 128, 256, 512, 1024, 1280, 1518];
/// Shortest and longest frame, with FCS.
const LIMITS: [u16; 2] = [64, 1518];
/// Small packets of acknowledgements, medium and full ones, as often as they were once seen on the Internet.
const IMIX: [(u16, u32); 3] = [(64, 7), (594, 4), (1518, 1)];
/// Longest deck: all combinations as often as their weights say.
const MOST: u64 = 1 << 16;

/// Things and how often each of them comes: `ect1=3,not_ect=1`, or `ect1` for one alone. No two are the same.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Weighted<T>(Vec<(T, u32)>);

impl<T: Copy + PartialEq> Weighted<T> {
    /// One thing, always.
    pub fn only(thing: T) -> Self {
        Self(vec![(thing, 1)])
    }

    /// The things with their weights, none of which is zero.
    pub fn entries(&self) -> &[(T, u32)] {
        &self.0
    }

    fn total(&self) -> u64 {
        self.0.iter().map(|(_, weight)| u64::from(*weight)).sum()
    }
}

/// Why a mix is not one. Messages name the part and what it may be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MixError {
    /// A part of the list is not what it should be.
    #[error("'{part}' is not {what}")]
    Part {
        /// The part.
        part: String,
        /// What was expected.
        what: &'static str,
    },
    /// A weight is not a number from 1 to 1000.
    #[error("'{0}' has no weight from 1 to 1000; write it like ect1=3,not_ect=1")]
    Weight(String),
    /// The same thing stands there twice.
    #[error("'{0}' is there twice")]
    Twice(String),
    /// An IPv6 frame of this size cannot carry the stamp.
    #[error(
        "an IPv6 frame of {size} bytes has no room for the generator's stamp; use {least} or more, or IPv4"
    )]
    Short {
        /// The size, with FCS.
        size: u16,
        /// The shortest that has room.
        least: usize,
    },
    /// There cannot be so many flows, or none.
    #[error("{0} flows of each kind are not possible; use 1 to {most}", most = Mix::MOST_FLOWS)]
    Flows(u16),
    /// Sizes, codepoints and versions have too many combinations.
    #[error("the weights need a cycle of {0} frames; use smaller weights, whose product stays below {MOST}")]
    Long(u64),
}

/// What can stand in a [`Weighted`] list.
pub trait Item: Copy + PartialEq {
    /// What a text should be, for the message that it is not.
    const WHAT: &'static str;

    /// Reads one.
    fn read(text: &str) -> Option<Self>;
}

impl Item for Ecn {
    const WHAT: &'static str = "a codepoint: ect1, ect0, ce or not_ect";

    fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|&ecn| name(ecn) == text.replace('-', "_"))
    }
}

impl Item for IpVersion {
    const WHAT: &'static str = "a version of IP: 4 or 6";

    fn read(text: &str) -> Option<Self> {
        match text {
            "4" => Some(Self::V4),
            "6" => Some(Self::V6),
            _ => None,
        }
    }
}

impl Item for u16 {
    const WHAT: &'static str = "a frame size with FCS: 64 to 1518";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok().filter(|size| (LIMITS[0]..=LIMITS[1]).contains(size))
    }
}

impl<T: Item> FromStr for Weighted<T> {
    type Err = MixError;

    fn from_str(text: &str) -> Result<Self, MixError> {
        let mut things: Vec<(T, u32)> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (thing, weight) = part.split_once('=').unwrap_or((part, "1"));
            let thing = T::read(thing.trim())
                .ok_or_else(|| MixError::Part { part: part.to_owned(), what: T::WHAT })?;
            let weight = weight.trim().parse().ok().filter(|weight| (1..=1000).contains(weight));
            let weight = weight.ok_or_else(|| MixError::Weight(part.to_owned()))?;
            if things.iter().any(|(other, _)| *other == thing) {
                return Err(MixError::Twice(part.to_owned()));
            }
            things.push((thing, weight));
        }
        Ok(Self(things))
    }
}

/// The name of a codepoint in options and results.
pub const fn name(ecn: Ecn) -> &'static str {
    match ecn {
        Ecn::NotEct => "not_ect",
        Ecn::Ect1 => "ect1",
        Ecn::Ect0 => "ect0",
        Ecn::Ce => "ce",
    }
}

/// What the frames of a load are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mix {
    sizes: Weighted<u16>,
    codepoints: Weighted<Ecn>,
    versions: Weighted<IpVersion>,
    flows: u16,
}

/// One of the combinations of a [`Mix`].
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) struct Kind {
    pub(super) size: u16,
    pub(super) ecn: Ecn,
    pub(super) version: IpVersion,
    pub(super) weight: u64,
}

impl Mix {
    /// Most flows of each codepoint and IP version: all four codepoints have ports of their own.
    pub const MOST_FLOWS: u16 = FLOWS / 4;

    /// Sizes with FCS; `flows` for each codepoint and IP version, since a sender does not change its codepoint.
    pub fn new(
        sizes: Weighted<u16>,
        codepoints: Weighted<Ecn>,
        versions: Weighted<IpVersion>,
        flows: u16,
    ) -> Result<Self, MixError> {
        for &(version, _) in versions.entries() {
            let least = version.payload() + stamp::BYTES + FCS;
            if let Some(&(size, _)) = sizes.entries().iter().find(|(size, _)| usize::from(*size) < least) {
                return Err(MixError::Short { size, least });
            }
        }
        if flows == 0 || flows > Self::MOST_FLOWS {
            return Err(MixError::Flows(flows));
        }
        let cycle = sizes.total() * codepoints.total() * versions.total();
        if cycle > MOST {
            return Err(MixError::Long(cycle));
        }
        Ok(Self { sizes, codepoints, versions, flows })
    }

    /// The same mix in frames of one size.
    pub fn with_size(&self, size: u16) -> Result<Self, MixError> {
        Self::new(Weighted::only(size), self.codepoints.clone(), self.versions.clone(), self.flows)
    }

    /// Flows of each codepoint and IP version.
    pub const fn flows(&self) -> u16 {
        self.flows
    }

    /// The sizes, with FCS.
    pub const fn sizes(&self) -> &Weighted<u16> {
        &self.sizes
    }

    /// The mean size, with FCS.
    pub fn mean_size(&self) -> f64 {
        let sum: u64 = self.sizes.entries().iter().map(|&(size, w)| u64::from(size) * u64::from(w)).sum();
        sum as f64 / self.sizes.total() as f64
    }

    /// All combinations.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        let mut kinds = Vec::new();
        for &(size, a) in self.sizes.entries() {
            for &(ecn, b) in self.codepoints.entries() {
                for &(version, c) in self.versions.entries() {
                    kinds.push(Kind {
                        size,
                        ecn,
                        version,
                        weight: u64::from(a) * u64::from(b) * u64::from(c),
                    });
                }
            }
        }
        kinds
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list<T: Copy>(things: &Weighted<T>, name: impl Fn(T) -> String) -> String {
            let part = |&(thing, weight): &(T, u32)| match things.0.len() {
                1 => name(thing),
                _ => format!("{}={weight}", name(thing)),
            };
            things.0.iter().map(part).collect::<Vec<_>>().join(",")
        }
        let versions = list(&self.versions, |v| if v == IpVersion::V4 { "IPv4" } else { "IPv6" }.to_owned());
        write!(
            f,
            "{} bytes with FCS, {}, {versions}, {} flow(s) of each kind",
            list(&self.sizes, |size| size.to_string()),
            list(&self.codepoints, |ecn| name(ecn).to_owned()),
            self.flows
        )
    }
}

/// `imix` or a list of sizes.
pub fn parse_sizes(text: &str) -> Result<Weighted<u16>, MixError> {
    if text == "imix" { Ok(Weighted(IMIX.to_vec())) } else { text.parse() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ecn(text: &str) -> Result<Weighted<Ecn>, MixError> {
        text.parse()
    }

    #[test]
    fn lists_read_with_and_without_weights() {
        assert_eq!(ecn("ect1").unwrap().entries(), [(Ecn::Ect1, 1)]);
        assert_eq!(ecn("ect1=3, not-ect").unwrap().entries(), [(Ecn::Ect1, 3), (Ecn::NotEct, 1)]);
        assert_eq!("6=2,4=1".parse::<Weighted<IpVersion>>().unwrap().total(), 3);
        assert_eq!(parse_sizes("64,1518").unwrap().entries(), [(64, 1), (1518, 1)]);
        assert_eq!(parse_sizes("imix").unwrap().total(), 12);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (outcome, part) in [
            (ecn("ect2").map(drop), "'ect2' is not a codepoint"),
            (ecn("ect1=0").map(drop), "'ect1=0' has no weight"),
            (ecn("ect1=many").map(drop), "'ect1=many' has no weight"),
            (ecn("ect1,ect1=2").map(drop), "'ect1=2' is there twice"),
            (ecn("").map(drop), "'' is not a codepoint"),
            (parse_sizes("63").map(drop), "64 to 1518"),
            (parse_sizes("1519").map(drop), "64 to 1518"),
            ("5".parse::<Weighted<IpVersion>>().map(drop), "'5' is not a version"),
        ] {
            let message = outcome.unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_mix_that_cannot_be_sent_is_refused() {
        let mix = |sizes: &str, ecn: &str, versions: &str, flows| {
            Mix::new(parse_sizes(sizes).unwrap(), ecn.parse().unwrap(), versions.parse().unwrap(), flows)
                .map_err(|e| e.to_string())
        };
        assert!(mix("64", "ect1", "4", 1).is_ok());
        assert!(mix("64", "ect1", "4,6", 1).unwrap_err().contains("use 84 or more"));
        assert!(mix("84", "ect1", "4,6", 4096).is_ok());
        assert!(mix("84", "ect1", "4", 0).unwrap_err().contains("1 to 4096"));
        assert!(mix("84", "ect1", "4", 4097).unwrap_err().contains("1 to 4096"));
        let weights = "64=1000,128=999";
        assert!(mix(weights, "ect1=1,ect0=33", "4", 1).unwrap_err().contains("67966 frames"));
        let imix = mix("imix", "ect1", "4", 1).unwrap();
        // (7 x 64 + 4 x 594 + 1518) / 12
        assert!((imix.mean_size() - 361.833).abs() < 1e-3);
    }
}
