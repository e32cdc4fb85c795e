//! Conformance: what every disk must do, run against both implementations.
