//! One file per API: translate the wire's words into ours, call, translate back. No state lives here, and
//! differences between versions are handled here and nowhere below.

pub mod api_versions;
