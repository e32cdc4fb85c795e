//! The reference page of the protocol, generated from `APIS`: `docs/reference/apis.md`. A test
//! keeps page and table equal.

use std::fmt::Write as _;

use ottla_protocol::api as wire;

use super::{APIS, Api, Versions};

const INTRODUCTION: &str = "\
# Protocol

What this broker answers on its Kafka listeners. *Versions* are those it tells clients in
ApiVersions and answers completely; a request of any other key or version ends the connection,
except ApiVersions itself, which is answered in version 0. From the *flexible* version on, headers
and bodies carry tagged fields.

An API that this broker does not have yet is not in the table, unless its whole truth is that there
is nothing (no transactions, no quotas, no access control lists): then it is answered with that.

This page is generated from the table in `broker/src/api.rs`.

| key | API | versions | flexible from |
|--:|---|---|--:|
";

/// The list of fuzz targets, one request type a line: key, name, lowest and highest version.
pub fn fuzz_targets() -> String {
    let mut list = "# Generated from the table in broker/src/api.rs.\n".to_owned();
    for api in APIS {
        let (min, max) = (api.serve.min, api.serve.max);
        let _ = writeln!(list, "{} {} {min} {max}", api.key, api.name);
    }
    list
}

/// The whole page.
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for api in APIS {
        let flexible = wire::facts(api.key).map(|facts| facts.flexible_from);
        let flexible = flexible.filter(|from| *from <= api.serve.max);
        let flexible = flexible.map_or_else(|| "never".to_owned(), |from| from.to_string());
        let _ = writeln!(
            page,
            "| {} | {} | {} | {flexible} |",
            api.key,
            api.name,
            versions(api)
        );
    }
    page
}

fn versions(api: &Api) -> String {
    if api.advertise == api.serve {
        return range(api.serve);
    }
    format!("{}, answered from {}", range(api.advertise), api.serve.min)
}

fn range(versions: Versions) -> String {
    match versions {
        Versions { min, max } if min == max => min.to_string(),
        Versions { min, max } => format!("{min}-{max}"),
    }
}
