//! The tokio glue: sockets in, sockets out, and nothing that decides anything. The machine of
//! `connection.rs` does the protocol; here its input is read, its output sent (`writev` for memory,
//! `sendfile` for ranges of files) and its deadlines kept. Limits on connections are kept here too,
//! because they count sockets.

mod admission;
mod listener;
mod outbox;
mod session;

pub use admission::{Admission, Limits};
pub use listener::{BindError, Bound, accept, bind};
