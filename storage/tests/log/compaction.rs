//! Compaction against a model that knows every record ever written: of each key the last one stays,
//! nothing comes back, tombstones go by the rules, and the producers' state is what it was.

mod checks;
mod crashes;
mod histories;
mod readers;
mod rules;
mod world;
