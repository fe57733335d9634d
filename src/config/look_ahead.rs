//! Who looks ahead with whose help: `lookahead:arm=speculative:call=8ms:draft=FILE:verify=FILE` on the command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::values::ValueError;
use crate::control::policy::lookahead::Arm;
use crate::time::Span;
use crate::units;

/// How long a call of the verifier takes.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum Call {
    /// As long as is usual in a simulation.
    #[default]
    Usual,
    /// So long in a simulation, up to 1 s.
    Given(Span),
    /// As long as it does: on a bridge.
    Measured,
}

impl Call {
    /// What a simulation takes it to be.
    pub const fn modelled(self) -> Span {
        match self {
            Self::Given(call) => call,
            Self::Usual | Self::Measured => Span::from_millis(8),
        }
    }
}

/// A drafter and a verifier, and how they are run.
#[derive(Clone, Debug, PartialEq)]
pub struct LookAhead {
    /// Who decides.
    pub arm: Arm,
    /// How long a call of the verifier takes.
    pub call: Call,
    /// From tick to tick: 1, 2, 4, 8 or 16 ms.
    pub tick: Span,
    /// Width of bins in normalised units, above 0 and up to 100.
    pub bin: f64,
    /// The fast model: this file, or the built-in one.
    pub draft: Option<PathBuf>,
    /// The slow model: this file, or the built-in one.
    pub verify: Option<PathBuf>,
}

impl Default for LookAhead {
    fn default() -> Self {
        Self {
            arm: Arm::default(),
            call: Call::default(),
            tick: Span::from_millis(4),
            bin: 0.5,
            draft: None,
            verify: None,
        }
    }
}

// The width of bins is read from text that has no not-a-number in it.
impl Eq for LookAhead {}

impl fmt::Display for LookAhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { arm, call, tick, bin, draft, verify } = self;
        write!(f, ":arm={}", arm.name())?;
        if *call != Call::Measured {
            write!(f, ":call={}ms", call.modelled().as_millis_f64())?;
        }
        write!(f, ":tick={}ms:bin={bin}", tick.as_millis_f64())?;
        for (name, file) in [("draft", draft), ("verify", verify)] {
            if let Some(file) = file {
                write!(f, ":{name}={}", file.display())?;
            }
        }
        Ok(())
    }
}

impl LookAhead {
    /// The same on a bridge, where a call takes as long as it does.
    ///
    /// # Errors
    /// It asks for what only a simulation can do.
    pub(super) fn on_a_bridge(&self) -> Result<Self, String> {
        if self.arm == Arm::Instant {
            let reason = "'arm=instant' is of l4sd sim and l4sd eval only: no machine has a verifier that takes no time; use \
                          arm=speculative, held or drafter";
            return Err(reason.to_owned());
        }
        if let Call::Given(call) = self.call {
            return Err(format!(
                "'call={call}' is of l4sd sim and l4sd eval only: on a bridge a call takes as long as it does; leave it out"
            ));
        }
        Ok(Self { call: Call::Measured, ..self.clone() })
    }
}

impl FromStr for LookAhead {
    type Err = ValueError;

    /// `arm=held:call=8ms:tick=4ms:bin=0.5:draft=FILE:verify=FILE`, any of them, once each.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut this = Self::default();
        let mut seen = Vec::new();
        for part in text.split(':') {
            let wrong = |why: &str| {
                ValueError(format!(
                    "'{part}' {why}; looking ahead is written like \
                     lookahead:arm=speculative:call=8ms:tick=4ms:bin=0.5:draft=FILE:verify=FILE"
                ))
            };
            let (name, value) = part.split_once('=').ok_or_else(|| wrong("has no value"))?;
            let span = || units::parse_span(value).ok();
            match name {
                "arm" => {
                    let found = Arm::ALL.into_iter().find(|arm| arm.name() == value);
                    let all = || Arm::ALL.map(Arm::name).join(", ");
                    this.arm = found.ok_or_else(|| wrong(&format!("is none of {}", all())))?;
                }
                "call" => {
                    let call = span().filter(|&s| s > Span::ZERO && s <= Span::from_secs(1));
                    let call = call.ok_or_else(|| wrong("is not a time above 0 and up to 1s"))?;
                    this.call = Call::Given(call);
                }
                "tick" => {
                    let tick = span().filter(|s| [1, 2, 4, 8, 16].map(Span::from_millis).contains(s));
                    this.tick = tick.ok_or_else(|| wrong("is none of 1ms, 2ms, 4ms, 8ms, 16ms"))?;
                }
                "bin" => {
                    let bin = value.parse().ok().filter(|&b: &f64| b > 0.0 && b <= 100.0);
                    this.bin = bin.ok_or_else(|| wrong("is not above 0 and up to 100"))?;
                }
                "draft" | "verify" if value.is_empty() => return Err(wrong("needs a file")),
                "draft" => this.draft = Some(value.into()),
                "verify" => this.verify = Some(value.into()),
                _ => return Err(wrong("is none of arm, call, tick, bin, draft, verify")),
            }
            if seen.contains(&name) {
                return Err(wrong("is there twice"));
            }
            seen.push(name);
        }
        Ok(this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_it_prints() {
        let text = "bin=0.25:arm=held:verify=b.onnx:call=32ms:tick=2ms:draft=a.onnx";
        let this: LookAhead = text.parse().unwrap();
        let printed = this.to_string();
        assert_eq!(printed, ":arm=held:call=32ms:tick=2ms:bin=0.25:draft=a.onnx:verify=b.onnx");
        assert_eq!(printed[1..].parse::<LookAhead>().unwrap(), this);
        let usual: LookAhead = "arm=speculative".parse().unwrap();
        assert_eq!(usual, LookAhead::default());
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("", "'' has no value"),
            ("arm=both", "'arm=both' is none of drafter"),
            ("call=0s", "'call=0s' is not a time"),
            ("call=2s", "'call=2s' is not a time"),
            ("tick=3ms", "'tick=3ms' is none of 1ms"),
            ("bin=0", "'bin=0' is not above 0"),
            ("bin=nan", "'bin=nan' is not above 0"),
            ("draft=", "'draft=' needs a file"),
            ("k=8", "'k=8' is none of arm"),
            ("call=8ms:call=8ms", "'call=8ms' is there twice"),
        ] {
            let message = text.parse::<LookAhead>().unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("lookahead:arm="), "{text}: {message}");
        }
    }
}
