//! The operating points, the bands their figures must lie in, and the reference box's figures.

use serde::Serialize;

use crate::flows::Kind;

/// Unresponsive load of the overload cell, Mbit/s.
pub(super) const OVERLOAD_MBIT: u32 = 60;

/// A named operating point.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// Its name on the command line and in tables.
    pub name: &'static str,
    pub(crate) rate_mbit: u32,
    pub(crate) rtt_ms: u32,
    pub(super) kinds: &'static [Kind],
    pub(super) bands: &'static [Band],
    pub(crate) reference: Option<Reference>,
}

/// What a figure must lie between, both ends included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Band {
    pub(super) figure: Figure,
    pub(super) low: f64,
    pub(super) high: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Figure {
    Utilization,
    LMbps,
    LDelayMeanMs,
    LDelayP99Ms,
    CDelayMeanMs,
    RatioLOverC,
    LDroppedShare,
    BacklogShareOfLimit,
    TailDrops,
    BaseProbability,
    OverloadEpisodes,
    RecoveryS,
}

/// The reference box's figures for a cell: Mbit/s, milliseconds, share of the link busy.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Reference {
    pub(crate) l_mbps: Option<f64>,
    pub(crate) c_mbps: Option<f64>,
    pub(crate) busy: f64,
    pub(crate) l_delay_mean_p99: Option<(f64, f64)>,
    pub(crate) c_delay_mean_p99: Option<(f64, f64)>,
    /// Percent of L packets marked, and of C packets dropped.
    pub(crate) l_marked_c_dropped: (Option<f64>, Option<f64>),
}

const fn band(figure: Figure, low: f64, high: f64) -> Band {
    Band { figure, low, high }
}

const MIXED: &[Kind] = &[Kind::Prague, Kind::Cubic];
pub(super) const OVERLOAD: &[Kind] = &[Kind::CbrEct1(OVERLOAD_MBIT), Kind::Cubic];

/// All cells. Bands are those of the project's first milestone; a cell without bands is reported only.
pub const CELLS: &[Cell] = &[
    Cell {
        name: "prague+cubic-40-20",
        rate_mbit: 40,
        rtt_ms: 20,
        kinds: MIXED,
        bands: &[
            band(Figure::Utilization, 0.95, 1.01),
            band(Figure::LDelayMeanMs, 0.0, 0.6),
            band(Figure::LDelayP99Ms, 0.0, 2.0),
            band(Figure::CDelayMeanMs, 10.0, 17.0),
            band(Figure::RatioLOverC, 0.5, 2.5),
        ],
        reference: Some(reference((25.0, 14.2), 0.979, (0.18, 0.60), (13.6, 21.8), (4.9, 0.078))),
    },
    Cell {
        name: "prague-40-20",
        rate_mbit: 40,
        rtt_ms: 20,
        kinds: &[Kind::Prague],
        bands: &[band(Figure::LMbps, 36.0, 40.4)],
        reference: Some(Reference {
            l_mbps: Some(38.1),
            c_mbps: None,
            busy: 0.953,
            l_delay_mean_p99: Some((0.47, 1.73)),
            c_delay_mean_p99: None,
            l_marked_c_dropped: (Some(7.5), None),
        }),
    },
    Cell {
        name: "cubic-40-20",
        rate_mbit: 40,
        rtt_ms: 20,
        kinds: &[Kind::Cubic],
        bands: &[],
        reference: Some(Reference {
            l_mbps: None,
            c_mbps: Some(33.9),
            busy: 0.848,
            l_delay_mean_p99: None,
            c_delay_mean_p99: Some((12.4, 18.7)),
            l_marked_c_dropped: (None, Some(0.012)),
        }),
    },
    Cell {
        name: "prague+cubic-40-10",
        rate_mbit: 40,
        rtt_ms: 10,
        kinds: MIXED,
        bands: &[],
        reference: Some(reference((20.8, 18.1), 0.973, (0.17, 0.70), (14.9, 21.4), (5.2, 0.084))),
    },
    Cell {
        name: "prague+cubic-12-20",
        rate_mbit: 12,
        rtt_ms: 20,
        kinds: MIXED,
        bands: &[],
        reference: Some(reference((6.45, 5.26), 0.976, (0.60, 1.93), (15.9, 26.6), (15.5, 0.37))),
    },
    Cell {
        name: "prague+cubic-4-20",
        rate_mbit: 4,
        rtt_ms: 20,
        kinds: MIXED,
        bands: &[],
        reference: Some(reference((2.44, 1.36), 0.951, (1.90, 5.85), (17.2, 55.5), (33.6, 2.3))),
    },
    Cell {
        name: "prague+cubic-120-20",
        rate_mbit: 120,
        rtt_ms: 20,
        kinds: MIXED,
        bands: &[],
        reference: Some(reference((77.8, 29.8), 0.897, (0.10, 0.55), (6.3, 17.3), (1.5, 0.045))),
    },
    Cell {
        name: "overload-60-on-40",
        rate_mbit: 40,
        rtt_ms: 20,
        kinds: OVERLOAD,
        bands: &[
            band(Figure::LDelayMeanMs, 14.0, 17.0),
            band(Figure::LDroppedShare, 0.30, 0.40),
            band(Figure::BacklogShareOfLimit, 0.0, 0.25),
            band(Figure::TailDrops, 0.0, 0.0),
            band(Figure::BaseProbability, 0.52, 0.65),
            band(Figure::OverloadEpisodes, 1.0, 1.0),
            band(Figure::RecoveryS, 0.0, 1.0),
        ],
        reference: Some(reference((37.6, 0.30), 0.948, (15.05, 21.0), (1.2, 2.8), (100.0, 35.0))),
    },
];

const fn reference(
    mbps: (f64, f64),
    busy: f64,
    l: (f64, f64),
    c: (f64, f64),
    (marked, dropped): (f64, f64),
) -> Reference {
    Reference {
        l_mbps: Some(mbps.0),
        c_mbps: Some(mbps.1),
        busy,
        l_delay_mean_p99: Some(l),
        c_delay_mean_p99: Some(c),
        l_marked_c_dropped: (Some(marked), Some(dropped)),
    }
}
