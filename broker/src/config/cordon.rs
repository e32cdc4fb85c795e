//! What `cordoned.log.dirs` may say (KIP-1066). What it does is in `crate::log_dirs`.

use std::path::PathBuf;

pub const KEY: &str = "cordoned.log.dirs";
/// Stands for every directory.
pub const ALL: &str = "*";

/// What is wrong with the list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CordonError {
    #[error("{KEY} names {0}, which is not in log.dirs")]
    NotALogDir(String),
    #[error("{KEY} may name nothing else beside {ALL}")]
    AllAndMore,
}

/// As Kafka a directory must be written as in `log.dirs`; named twice it counts once.
pub fn check(cordoned: &[String], log_dirs: &[PathBuf]) -> Result<(), CordonError> {
    if cordoned.iter().any(|dir| dir == ALL) {
        return match cordoned.len() {
            1 => Ok(()),
            _ => Err(CordonError::AllAndMore),
        };
    }
    // A path equals the same one with another slash, and the directory would not be found by it.
    let known = |dir: &&String| {
        log_dirs
            .iter()
            .any(|known| known.as_os_str() == dir.as_str())
    };
    match cordoned.iter().find(|dir| !known(dir)) {
        Some(stranger) => Err(CordonError::NotALogDir(stranger.clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_log_directories_are_cordoned_or_all_of_them() {
        let dirs = [PathBuf::from("/a"), PathBuf::from("/b")];
        let checked = |list: &[&str]| {
            let list: Vec<String> = list.iter().map(|dir| (*dir).to_owned()).collect();
            check(&list, &dirs)
        };
        for fine in [&[][..], &["/a"], &["/b", "/a", "/b"], &["*"]] {
            assert_eq!(checked(fine), Ok(()), "{fine:?}");
        }
        for (list, why) in [
            (&["/c"][..], CordonError::NotALogDir("/c".to_owned())),
            (&["/a", "b"], CordonError::NotALogDir("b".to_owned())),
            (&["/a/"], CordonError::NotALogDir("/a/".to_owned())),
            (&["/a", "*"], CordonError::AllAndMore),
            (&["*", "*"], CordonError::AllAndMore),
        ] {
            assert_eq!(checked(list), Err(why), "{list:?}");
        }
    }
}
