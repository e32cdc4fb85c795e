//! The words of a line: positional ones, `key=value`s, and flags.

use bytes::{BufMut, Bytes, BytesMut};
use ottla_coordinator::command::{
    Client, JoinGroup, LeaveGroup, LeavingMember, ListFilter, MemberRef, SyncGroup,
};
use uuid::Uuid;

pub(crate) struct Words(Vec<String>);

impl Words {
    pub(crate) fn of(line: &str) -> Words {
        Words(line.split_whitespace().map(str::to_owned).collect())
    }

    pub(crate) fn next(&mut self) -> String {
        let word = self.0.remove(0);
        if word == "\"\"" { String::new() } else { word }
    }

    pub(crate) fn get(&mut self, key: &str) -> Option<String> {
        let prefix = format!("{key}=");
        let at = self.0.iter().position(|word| word.starts_with(&prefix))?;
        Some(self.0.remove(at)[prefix.len()..].to_owned())
    }

    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let at = self.0.iter().position(|word| word == name);
        at.map(|at| self.0.remove(at)).is_some()
    }

    pub(crate) fn number<N: std::str::FromStr>(&mut self, key: &str, otherwise: N) -> N {
        self.get(key)
            .map_or(otherwise, |text| text.parse().ok().unwrap())
    }

    pub(crate) fn member(&mut self) -> MemberRef {
        MemberRef {
            member_id: long(&self.get("member").unwrap_or_default()),
            instance_id: self.get("instance"),
            generation: self.number("gen", -1),
        }
    }

    pub(crate) fn join(&mut self) -> JoinGroup {
        let group = self.next();
        let protocols = self
            .get("protocols")
            .unwrap_or_else(|| "range:t".to_owned());
        let protocols = protocols
            .split(';')
            .filter(|text| !text.is_empty())
            .map(protocol);
        JoinGroup {
            group,
            protocols: protocols.collect(),
            member_id: long(&self.get("member").unwrap_or_default()),
            instance_id: self.get("instance"),
            client: Client {
                id: self.get("client").unwrap_or_else(|| "c".to_owned()),
                host: "/127.0.0.1".to_owned(),
            },
            protocol_type: self.get("type").unwrap_or_else(|| "consumer".to_owned()),
            session_timeout_ms: self.number("session", 10_000),
            rebalance_timeout_ms: self.number("rebalance", 60_000),
            requires_known_member_id: !self.flag("v3"),
            supports_skipping_assignment: self.flag("v9"),
            reason: self.get("reason"),
        }
    }

    pub(crate) fn sync(&mut self) -> SyncGroup {
        let group = self.next();
        let assignments = self.get("assign").unwrap_or_default();
        let assignments = assignments.split(',').filter_map(|one| one.split_once(':'));
        let assignments = assignments.map(|(id, what)| (long(id), assigned(what)));
        SyncGroup {
            group,
            assignments: assignments.collect(),
            member: self.member(),
            protocol_type: self.get("type"),
            protocol_name: self.get("protocol"),
        }
    }

    /// `member`, `member@instance` or `@instance`.
    pub(crate) fn leave(&mut self) -> LeaveGroup {
        let group = self.next();
        let members = self.0.drain(..).map(|word| {
            let (member_id, instance_id) = word.split_once('@').unwrap_or((&word, ""));
            LeavingMember {
                member_id: long(member_id),
                instance_id: (!instance_id.is_empty()).then(|| instance_id.to_owned()),
                reason: None,
            }
        });
        let members = members.collect();
        LeaveGroup { group, members }
    }

    pub(crate) fn partitions(&mut self) -> Vec<(String, i32)> {
        self.0.drain(..).map(|word| partition(&word)).collect()
    }

    pub(crate) fn assignments(&mut self) -> Vec<(String, String)> {
        let words = self.0.drain(..);
        words
            .map(|word| {
                word.split_once('=')
                    .map(|(a, b)| (a.to_owned(), b.to_owned()))
                    .unwrap()
            })
            .collect()
    }

    pub(crate) fn filter(&mut self) -> ListFilter {
        ListFilter {
            states: self.get("state").into_iter().collect(),
            types: self.get("type").into_iter().collect(),
        }
    }
}

/// `topic-0`
pub(crate) fn partition(text: &str) -> (String, i32) {
    let (topic, partition) = text.rsplit_once('-').unwrap();
    (topic.to_owned(), partition.parse().unwrap())
}

/// `c-1` stands for a whole member id.
fn long(id: &str) -> String {
    match id.rsplit_once('-') {
        Some((name, number)) => {
            format!("{name}-{}", Uuid::from_u128(number.parse().unwrap()))
        }
        None => id.to_owned(),
    }
}

/// `%t:0.1` with or without `!userdata` in the consumer protocol, or bytes.
fn assigned(text: &str) -> Bytes {
    let Some(embedded) = text.strip_prefix('%') else {
        return text.to_owned().into();
    };
    let (named, user_data) = embedded.split_once('!').unwrap_or((embedded, ""));
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    put_named(&mut bytes, named);
    bytes.put_i32(i32::try_from(user_data.len()).unwrap());
    bytes.put_slice(user_data.as_bytes());
    bytes.freeze()
}

/// One topic and its partitions: `t:0.1`.
fn put_named(bytes: &mut BytesMut, named: &str) {
    let (topic, partitions) = named.split_once(':').unwrap();
    bytes.put_i32(1);
    bytes.put_i16(i16::try_from(topic.len()).unwrap());
    bytes.put_slice(topic.as_bytes());
    let partitions: Vec<i32> = partitions.split('.').map(|p| p.parse().unwrap()).collect();
    bytes.put_i32(i32::try_from(partitions.len()).unwrap());
    partitions
        .into_iter()
        .for_each(|partition| bytes.put_i32(partition));
}

/// `name:topic,topic+userdata` in the consumer protocol, or `name=bytes`, or only a name. In place
/// of user data `%t:0.1` stands for the partitions that are owned.
fn protocol(text: &str) -> (String, Bytes) {
    if let Some((name, bytes)) = text.split_once('=') {
        return (name.to_owned(), bytes.to_owned().into());
    }
    let Some((name, topics)) = text.split_once(':') else {
        return (text.to_owned(), Bytes::new());
    };
    let (topics, user_data) = topics.split_once('+').unwrap_or((topics, ""));
    let topics: Vec<&str> = topics.split(',').collect();
    let mut bytes = BytesMut::new();
    let owned = user_data.strip_prefix('%');
    bytes.put_i16(i16::from(owned.is_some()));
    bytes.put_i32(i32::try_from(topics.len()).unwrap());
    for topic in topics {
        bytes.put_i16(i16::try_from(topic.len()).unwrap());
        bytes.put_slice(topic.as_bytes());
    }
    if let Some(owned) = owned {
        bytes.put_i32(-1);
        put_named(&mut bytes, owned);
        return (name.to_owned(), bytes.freeze());
    }
    bytes.put_i32(i32::try_from(user_data.len()).unwrap());
    bytes.put_slice(user_data.as_bytes());
    (name.to_owned(), bytes.freeze())
}
