//! Groups as a client sees them: who coordinates one, what groups there are, and requests to the
//! coordinator that wait while it is loading or moves.

use std::time::{Duration, Instant};

use ottla_protocol::messages as api;
use ottla_protocol::messages::{Request, Response};

use super::{Cluster, str_bytes};
use crate::fault::{Exit, Fault, Outcome};

const GROUP_KEY: i8 = 0;
/// Loading, not available yet, moved.
const TRANSIENT: [i16; 3] = [14, 15, 16];
const RETRY_BACKOFF: Duration = Duration::from_millis(100);
/// ListGroups tells states from here on, and types from the other.
const STATES_FROM: i16 = 4;
const TYPES_FROM: i16 = 5;

/// One row of ListGroups; `None`: the broker is too old to tell.
pub(crate) struct ListedGroup {
    pub(crate) group: String,
    pub(crate) protocol_type: String,
    pub(crate) state: Option<String>,
    pub(crate) kind: Option<String>,
    /// The broker that listed it, which is its coordinator.
    pub(crate) coordinator: i32,
}

impl Cluster {
    /// The broker that coordinates `group`.
    pub(crate) fn coordinator(&mut self, group: &str) -> Outcome<i32> {
        if let Some(id) = self.coordinators.get(group) {
            return Ok(*id);
        }
        let give_up_at = self.give_up_at();
        loop {
            let response = self.any(|version| {
                let mut request = api::FindCoordinatorRequest::default();
                request.key_type = GROUP_KEY;
                if version >= 4 {
                    request.coordinator_keys = vec![str_bytes(group)];
                } else {
                    request.key = str_bytes(group);
                }
                request
            })?;
            let (code, id, host, port) = match response.coordinators.first() {
                Some(c) => (c.error_code, c.node_id.0, &c.host, c.port),
                None => {
                    let node_id = response.node_id.0;
                    (response.error_code, node_id, &response.host, response.port)
                }
            };
            if code == 0 {
                self.addresses.insert(id, format!("{host}:{port}"));
                self.coordinators.insert(group.to_owned(), id);
                return Ok(id);
            }
            if !TRANSIENT.contains(&code) || Instant::now() >= give_up_at {
                let doing = format!("finding the coordinator of group \"{group}\"");
                return Err(Fault::broker(&doing, code, None));
            }
            std::thread::sleep(RETRY_BACKOFF);
        }
    }

    /// Asks the coordinator of `group`, at most at version `highest`; again while `error` of its
    /// answer says that it is loading or has moved.
    pub(crate) fn on_coordinator<R>(
        &mut self,
        group: &str,
        highest: i16,
        build: impl Fn(i16) -> R,
        error: impl Fn(&R::Response) -> i16,
    ) -> Outcome<R::Response>
    where
        R: Request,
        R::Response: Response,
    {
        let give_up_at = self.give_up_at();
        loop {
            let id = self.coordinator(group)?;
            let response = self.on_broker(id, highest, &build)?;
            if !TRANSIENT.contains(&error(&response)) || Instant::now() >= give_up_at {
                return Ok(response);
            }
            self.coordinators.remove(group);
            std::thread::sleep(RETRY_BACKOFF);
        }
    }

    /// Whether the coordinator of `group` serves `api_key`.
    pub(crate) fn coordinator_serves(&mut self, group: &str, api_key: i16) -> Outcome<bool> {
        let id = self.coordinator(group)?;
        Ok(self.connection(id)?.serves(api_key))
    }

    /// The address of a broker; empty when it is not known.
    pub(crate) fn address(&self, node_id: i32) -> &str {
        self.addresses.get(&node_id).map_or("", String::as_str)
    }

    /// The groups of all brokers in these states and of these types (empty: all), by name.
    pub(crate) fn list_groups(
        &mut self,
        states: &[String],
        types: &[String],
    ) -> Outcome<Vec<ListedGroup>> {
        self.metadata(Some(&[]), false)?;
        let brokers: Vec<i32> = self.addresses.keys().copied().collect();
        let mut groups = Vec::new();
        for id in brokers {
            let (version, response) = self.groups_of(id, states, types)?;
            groups.extend(response.groups.iter().map(|group| ListedGroup {
                group: group.group_id.0.to_string(),
                protocol_type: group.protocol_type.to_string(),
                state: (version >= STATES_FROM).then(|| group.group_state.to_string()),
                kind: (version >= TYPES_FROM).then(|| group.group_type.to_string()),
                coordinator: id,
            }));
        }
        groups.sort_by(|a, b| a.group.cmp(&b.group));
        Ok(groups)
    }

    fn groups_of(
        &mut self,
        id: i32,
        states: &[String],
        types: &[String],
    ) -> Outcome<(i16, api::ListGroupsResponse)> {
        let give_up_at = self.give_up_at();
        let texts = |texts: &[String]| texts.iter().map(|text| str_bytes(text)).collect();
        loop {
            let version = self
                .connection(id)?
                .version_of::<api::ListGroupsRequest>(i16::MAX)?;
            let too_old = |what: &str| {
                Fault::new(
                    "E1103",
                    Exit::Failed,
                    format!("broker {id} cannot filter by {what}"),
                )
                .hint(format!("leave --{what} out"))
            };
            if version < STATES_FROM && !states.is_empty() {
                return Err(too_old("state"));
            }
            if version < TYPES_FROM && !types.is_empty() {
                return Err(too_old("type"));
            }
            let response = self.on_broker(id, version, |_version| {
                let mut request = api::ListGroupsRequest::default();
                request.states_filter = texts(states);
                request.types_filter = texts(types);
                request
            })?;
            match response.error_code {
                0 => return Ok((version, response)),
                code if TRANSIENT.contains(&code) && Instant::now() < give_up_at => {
                    std::thread::sleep(RETRY_BACKOFF);
                }
                code => {
                    let doing = format!("listing the groups of broker {id}");
                    return Err(Fault::broker(&doing, code, None));
                }
            }
        }
    }

    fn give_up_at(&self) -> Instant {
        Instant::now() + self.options.timeout
    }

    /// "There is no such group", with the name that was perhaps meant.
    pub(crate) fn unknown_group(&mut self, name: &str) -> Fault {
        let all = self.list_groups(&[], &[]).unwrap_or_default();
        let closest = all
            .iter()
            .map(|known| {
                (
                    strsim::damerau_levenshtein(&known.group, name),
                    &known.group,
                )
            })
            .min()
            .filter(|(distance, _)| *distance <= name.len().max(3) / 3 + 1);
        let what = format!("group \"{name}\" does not exist");
        let fault = Fault::new("E1209", Exit::NotFound, what);
        match closest {
            Some((_, known)) => fault.hint(format!("did you mean \"{known}\"?")),
            None => fault.hint("`ottla group list` shows what exists"),
        }
    }
}
