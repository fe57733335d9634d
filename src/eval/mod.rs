//! Many cells under many policies and seeds, and what is said about them: scores, feasibility, intervals, tables, plots.
//!
//! It judges result objects. It must not know how a simulation works, and no AQM formula stands here.
