//! Where a seek moves each partition: pure, from what is committed and where the partitions begin
//! and end. Also the two forms of a plan as CSV: ours with a header line, and Kafka's without one
//! (`topic,partition,offset`, with the group in front when there are several).

use std::collections::BTreeMap;

use crate::client::offsets::At;
use crate::fault::{Exit, Fault, Outcome};

/// Where to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Target {
    Start,
    End,
    Current,
    Offset(i64),
    TimeMs(i64),
    /// By so many records.
    Shift(i64),
    /// As a file says.
    Each(BTreeMap<At, i64>),
}

/// One partition as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    pub(super) committed: Option<i64>,
    pub(super) start: i64,
    pub(super) end: i64,
    /// For [`Target::TimeMs`]: the first record at or after that time.
    pub(super) at_time: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) from: Option<i64>,
    pub(super) to: i64,
    /// Differs from `to` when it is outside of the partition.
    pub(super) wanted: i64,
}

impl Target {
    pub(super) fn of(&self, at: &At, marks: &Marks) -> Outcome<Move> {
        let (topic, partition) = at;
        let wanted = match self {
            Target::Start => marks.start,
            Target::End => marks.end,
            Target::Current => marks.committed.unwrap_or(marks.end),
            Target::Offset(offset) => *offset,
            Target::TimeMs(_) => marks.at_time.unwrap_or(marks.end),
            Target::Shift(by) => match marks.committed {
                Some(committed) => committed.saturating_add(*by),
                None => {
                    let what = format!("nothing is committed for {topic} partition {partition}");
                    return Err(Fault::new("E1213", Exit::Failed, what)
                        .why("a shift starts from the committed offset")
                        .hint("leave the partition out, or use --to"));
                }
            },
            Target::Each(offsets) => offsets.get(at).copied().unwrap_or(marks.end),
        };
        Ok(Move {
            from: marks.committed,
            to: wanted.clamp(marks.start, marks.end.max(marks.start)),
            wanted,
        })
    }
}

/// Reads a plan for `group`; rows of other groups are passed over.
pub(super) fn from_csv(text: &str, group: &str) -> Outcome<BTreeMap<At, i64>> {
    let lines = (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty());
    let mut columns = None;
    let mut offsets = BTreeMap::new();
    for (number, line) in lines {
        let fields = fields(line);
        if columns.is_none() {
            let (found, is_header) = Columns::of(&fields).ok_or_else(|| bad_line(number, line))?;
            columns = Some(found);
            if is_header {
                continue;
            }
        }
        let read = columns.as_ref().and_then(|columns| columns.read(&fields));
        let (of_group, at, offset) = read.ok_or_else(|| bad_line(number, line))?;
        if of_group.is_none_or(|name| name == group) {
            offsets.insert(at, offset);
        }
    }
    Ok(offsets)
}

fn bad_line(number: usize, line: &str) -> Fault {
    Fault::usage(format!(
        "line {number} of the plan is not understood: {line}"
    ))
    .hint("write topic,partition,offset, or use what --dry-run -o csv prints")
}

/// Which field is what.
struct Columns {
    group: Option<usize>,
    topic: usize,
    partition: usize,
    offset: usize,
}

impl Columns {
    /// Also whether these fields are a header.
    fn of(first: &[String]) -> Option<(Columns, bool)> {
        let named = |name: &str| first.iter().position(|field| field == name);
        if let (Some(topic), Some(partition)) = (named("topic"), named("partition")) {
            let columns = Columns {
                group: named("group"),
                topic,
                partition,
                offset: named("new_offset").or_else(|| named("offset"))?,
            };
            return Some((columns, true));
        }
        let behind_group = usize::from(first.len() == 4);
        let columns = Columns {
            group: (behind_group == 1).then_some(0),
            topic: behind_group,
            partition: behind_group + 1,
            offset: behind_group + 2,
        };
        (first.len() == 3 + behind_group).then_some((columns, false))
    }

    fn read<'a>(&self, fields: &'a [String]) -> Option<(Option<&'a str>, At, i64)> {
        let group = match self.group {
            Some(index) => Some(fields.get(index)?.as_str()),
            None => None,
        };
        let partition = fields.get(self.partition)?.trim().parse().ok()?;
        let offset: i64 = fields.get(self.offset)?.trim().parse().ok()?;
        let topic = fields.get(self.topic)?.trim().to_owned();
        (offset >= 0 && !topic.is_empty()).then_some((group, (topic, partition), offset))
    }
}

/// The fields of a line; quotes may hold commas, and two quotes are one.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut letters = line.trim_end_matches('\r').chars().peekable();
    while let Some(letter) = letters.next() {
        let last = fields.len() - 1;
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                fields[last].push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            letter => fields[last].push(letter),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32) -> At {
        ("t".to_owned(), partition)
    }

    #[test]
    fn every_target_ends_inside_the_partition() {
        let marks = Marks {
            committed: Some(5),
            start: 2,
            end: 9,
            at_time: Some(7),
        };
        let to = |target: Target| {
            let moved = target.of(&at(0), &marks).unwrap();
            (moved.to, moved.wanted)
        };
        assert_eq!(to(Target::Start), (2, 2));
        assert_eq!(to(Target::End), (9, 9));
        assert_eq!(to(Target::Current), (5, 5));
        assert_eq!(to(Target::Offset(99)), (9, 99));
        assert_eq!(to(Target::TimeMs(0)), (7, 7));
        assert_eq!(to(Target::Shift(-100)), (2, -95));
        assert_eq!(to(Target::Shift(2)), (7, 7));
        assert_eq!(to(Target::Each(BTreeMap::from([(at(0), 3)]))), (3, 3));
    }

    #[test]
    fn without_a_commit_there_is_nothing_to_shift_and_current_is_the_end() {
        let marks = Marks {
            end: 9,
            ..Marks::default()
        };
        assert_eq!(Target::Current.of(&at(0), &marks).unwrap().to, 9);
        assert_eq!(Target::TimeMs(1).of(&at(0), &marks).unwrap().to, 9);
        assert!(Target::Shift(1).of(&at(0), &marks).is_err());
    }

    #[test]
    fn a_plan_is_read_in_kafkas_forms_and_in_ours() {
        let expected = BTreeMap::from([(at(0), 3), (at(1), 4)]);
        let read = |text| from_csv(text, "g,1").unwrap();
        assert_eq!(read("t,0,3\nt,1,4\n"), expected);
        assert_eq!(read("\"g,1\",t,0,3\n\"g,1\",t,1,4\nother,t,2,5"), expected);
        let ours = "group,topic,partition,current_offset,new_offset\r\n\
                    \"g,1\",t,0,-,3\r\n\"g,1\",t,1,9,4\r\n";
        assert_eq!(read(ours), expected);
        for bad in ["t,0", "t,x,3", "t,0,-3", "topic,partition\nt,0"] {
            assert!(from_csv(bad, "g").is_err(), "{bad}");
        }
    }
}
