//! Which partitions are meant by `-t TOPIC` and `-t TOPIC:0,2`.

use std::collections::{BTreeMap, BTreeSet};

use crate::client::Cluster;
use crate::client::offsets::At;
use crate::commands::name_of;
use crate::fault::{Exit, Fault, Outcome};

/// Topics, and their partitions where only some are meant.
pub(crate) type Scope = BTreeMap<String, Option<BTreeSet<i32>>>;

pub(crate) fn parse(texts: &[String]) -> Outcome<Scope> {
    let mut scope = Scope::new();
    for text in texts {
        let (topic, partitions) = match text.split_once(':') {
            None => (text.as_str(), None),
            Some((topic, list)) => {
                let numbers: Result<BTreeSet<i32>, _> = list
                    .split(',')
                    .map(|number| number.trim().parse())
                    .collect();
                let numbers = numbers.map_err(|_| {
                    Fault::usage(format!("\"{text}\" does not name partitions"))
                        .hint("write orders for all of them, orders:0,2 for some")
                })?;
                (topic, Some(numbers))
            }
        };
        match (scope.get_mut(topic), partitions) {
            (Some(Some(known)), Some(more)) => known.extend(more),
            (_, partitions) => drop(scope.insert(topic.to_owned(), partitions)),
        }
    }
    Ok(scope)
}

/// Every partition of the scope; each must exist.
pub(crate) fn partitions(cluster: &mut Cluster, scope: &Scope) -> Outcome<BTreeSet<At>> {
    let names: Vec<String> = scope.keys().cloned().collect();
    let mut all = BTreeSet::new();
    for topic in cluster.existing_topics(&names)? {
        let name = name_of(&topic);
        let existing: BTreeSet<i32> = topic.partitions.iter().map(|p| p.partition_index).collect();
        let wanted = scope.get(name).cloned().flatten();
        let wanted = wanted.unwrap_or_else(|| existing.clone());
        if let Some(index) = wanted.difference(&existing).next() {
            let what = format!("topic \"{name}\" has no partition {index}");
            return Err(Fault::new("E1204", Exit::NotFound, what)
                .hint(format!("`ottla topic describe {name}` shows them")));
        }
        all.extend(wanted.into_iter().map(|index| (name.to_owned(), index)));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_may_name_some_of_their_partitions() {
        let texts = ["a", "b:0,2", "b:1"].map(str::to_owned);
        let scope = parse(&texts).unwrap();
        assert_eq!(scope["a"], None);
        assert_eq!(scope["b"], Some(BTreeSet::from([0, 1, 2])));
        assert!(parse(&["a:x".to_owned()]).is_err());
    }
}
