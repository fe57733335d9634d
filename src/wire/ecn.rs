//! The two ECN bits of the IP header (RFC 3168 §5, RFC 9331 §4.1).

/// An ECN codepoint. The discriminant is the two-bit field itself.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash)]
#[repr(u8)]
pub enum Ecn {
    /// `00`: the sender does not understand ECN; congestion is signalled by dropping.
    NotEct = 0b00,
    /// `01`: the L4S identifier (RFC 9331).
    Ect1 = 0b01,
    /// `10`: Classic ECN (RFC 3168).
    Ect0 = 0b10,
    /// `11`: congestion experienced.
    Ce = 0b11,
}

impl Ecn {
    /// All codepoints in the order of their bits.
    pub const ALL: [Self; 4] = [Self::NotEct, Self::Ect1, Self::Ect0, Self::Ce];

    /// The codepoint in the two low bits of `bits`.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 0b11 {
            0b00 => Self::NotEct,
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    /// Whether the sender said that it understands ECN (any codepoint but Not-ECT).
    pub const fn is_ect(self) -> bool {
        !matches!(self, Self::NotEct)
    }
}
