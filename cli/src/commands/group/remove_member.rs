//! `ottla group remove-member`: for members that are gone without having left, static ones above
//! all. Members of KIP-848's protocol leave by themselves when their session ends.

use clap::{ArgGroup, Args};
use ottla_protocol::messages as api;
use serde_json::json;

use super::view::{GroupView, MemberView};
use crate::arguments::ClientArgs;
use crate::client::str_bytes;
use crate::commands::first_of;
use crate::fault::{Exit, Fault, Outcome};
use crate::output::Table;

const UNKNOWN_MEMBER_ID: i16 = 25;
/// The first version that names any number of members.
const MEMBERS_FROM: i16 = 3;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("who").required(true).args(["all", "member", "instance"])))]
pub(crate) struct RemoveMemberArgs {
    /// Name of the group
    group: String,
    /// All members
    #[arg(long, conflicts_with_all = ["member", "instance"])]
    all: bool,
    /// The member with this id; may be repeated
    #[arg(long, value_name = "MEMBER-ID")]
    member: Vec<String>,
    /// The static member with this group.instance.id; may be repeated
    #[arg(long, value_name = "INSTANCE-ID")]
    instance: Vec<String>,
    /// What the broker's log says about it
    #[arg(long, default_value = "removed with ottla group remove-member")]
    reason: String,
    /// Show who would be removed
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &RemoveMemberArgs, client: &ClientArgs) -> Outcome {
    let mut cluster = client.connect()?;
    let group = args.group.as_str();
    let view = GroupView::of(&mut cluster, group)?;
    let leaving = chosen(args, &view)?;
    let id = cluster.coordinator(group)?;
    let version = cluster
        .connection(id)?
        .version_of::<api::LeaveGroupRequest>(i16::MAX)?;
    if version < MEMBERS_FROM {
        let what = format!("broker {id} is too old to have members removed from outside");
        return Err(Fault::new("E1103", Exit::Failed, what));
    }
    let mut codes = vec![0; leaving.len()];
    if !args.dry_run && !leaving.is_empty() {
        let response = cluster.on_coordinator(
            group,
            i16::MAX,
            |version| request(args, &leaving, version),
            |response: &api::LeaveGroupResponse| response.error_code,
        )?;
        if response.error_code != 0 {
            let doing = format!("removing members of group \"{group}\"");
            return Err(Fault::broker(&doing, response.error_code, None));
        }
        let answered = response.members.iter().map(|member| member.error_code);
        codes = answered
            .chain(std::iter::repeat(0))
            .take(leaving.len())
            .collect();
    }
    let mut table = Table::new(&["group", "member_id", "instance_id", "host", "status"]);
    let mut failures = Vec::new();
    for (member, code) in leaving.iter().zip(codes) {
        let status = match (code, args.dry_run) {
            (0, true) => "WOULD BE REMOVED",
            (0, false) => "REMOVED",
            _ => "FAILED",
        };
        table.row(vec![
            json!(group),
            json!(member.member_id),
            json!(member.instance_id),
            json!(member.host),
            json!(status),
        ]);
        if code != 0 {
            failures.push(not_removed(member, code));
        }
    }
    table.print(client.output);
    first_of(failures, leaving.len())
}

fn not_removed(member: &MemberView, code: i16) -> Fault {
    let fault = Fault::broker(&format!("removing {}", member.member_id), code, None);
    match (code, member.protocol) {
        (UNKNOWN_MEMBER_ID, Some("consumer")) => {
            fault.hint("a member of this protocol cannot be removed; its session ends by itself")
        }
        _ => fault,
    }
}

fn chosen<'a>(args: &RemoveMemberArgs, view: &'a GroupView) -> Outcome<Vec<&'a MemberView>> {
    if args.all {
        return Ok(view.members.iter().collect());
    }
    let find = |what: &str, id: &String, is: &dyn Fn(&MemberView) -> bool| {
        view.members
            .iter()
            .find(|member| is(member))
            .ok_or_else(|| {
                let what = format!("group \"{}\" has no {what} \"{id}\"", view.group);
                Fault::new("E1209", Exit::NotFound, what)
                    .hint(format!("`ottla group members {}` shows them", view.group))
            })
    };
    let mut chosen = Vec::new();
    for id in &args.member {
        chosen.push(find("member", id, &|member| &member.member_id == id)?);
    }
    for id in &args.instance {
        let is = |member: &MemberView| member.instance_id.as_ref() == Some(id);
        chosen.push(find("instance", id, &is)?);
    }
    Ok(chosen)
}

fn request(
    args: &RemoveMemberArgs,
    leaving: &[&MemberView],
    version: i16,
) -> api::LeaveGroupRequest {
    let mut request = api::LeaveGroupRequest::default();
    request.group_id = api::GroupId(str_bytes(&args.group));
    let members = leaving.iter().map(|member| {
        let mut leaving = api::leave_group_request::MemberIdentity::default();
        leaving.member_id = str_bytes(&member.member_id);
        leaving.group_instance_id = member.instance_id.as_deref().map(str_bytes);
        if version >= 5 {
            leaving.reason = Some(str_bytes(&args.reason));
        }
        leaving
    });
    request.members = members.collect();
    request
}
