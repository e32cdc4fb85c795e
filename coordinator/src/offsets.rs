//! Committed offsets.
