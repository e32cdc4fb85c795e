//! Groups by their protocol.
