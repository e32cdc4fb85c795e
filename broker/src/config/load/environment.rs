//! Environment variables as configuration, by the rule of Kafka's official image: strip `KAFKA_`,
//! lower case, then `_` is a dot, `__` an underscore and `___` a dash. `CLUSTER_ID` is the one
//! other name.

const PREFIX: &str = "KAFKA_";

/// Variables of the image that configure its Java machine, not the broker.
const NOT_CONFIGURATION: &[&str] = &[
    "KAFKA_CLASSPATH",
    "KAFKA_CLUSTER_ID",
    "KAFKA_DEBUG",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_HEAP_OPTS",
    "KAFKA_HOME",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_OPTS",
    "KAFKA_TOOLS_LOG4J_LOGLEVEL",
    "KAFKA_VERSION",
];
const NOT_CONFIGURATION_PREFIXES: &[&str] = &["KAFKA_JMX_", "KAFKA_LOG4J_"];

/// Whether a variable would configure the broker.
pub fn is_configuration(variable: &str) -> bool {
    variable == "CLUSTER_ID"
        || (variable.starts_with(PREFIX)
            && variable.len() > PREFIX.len()
            && !NOT_CONFIGURATION.contains(&variable)
            && !NOT_CONFIGURATION_PREFIXES
                .iter()
                .any(|prefix| variable.starts_with(prefix)))
}

/// The key that a variable sets, if it configures the broker.
pub fn key_of_variable(variable: &str) -> Option<String> {
    if !is_configuration(variable) {
        return None;
    }
    if variable == "CLUSTER_ID" {
        return Some("ottla.cluster.id".to_owned());
    }
    let dotted = variable
        .strip_prefix(PREFIX)?
        .to_lowercase()
        .replace('_', ".");
    Some(dotted.replace("...", "-").replace("..", "_"))
}

/// As [`key_of_variable`], without what Kubernetes sets for a service that is called `kafka`.
pub(super) fn key_of_setting(variable: &str, value: &str) -> Option<String> {
    let of_kubernetes = variable.starts_with("KAFKA_SERVICE_")
        || variable.starts_with("KAFKA_PORT_")
        || (variable == "KAFKA_PORT" && value.starts_with("tcp://"));
    if of_kubernetes {
        None
    } else {
        key_of_variable(variable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn underscores_become_dots_underscores_and_dashes() {
        let key = |variable| key_of_variable(variable).unwrap_or_default();
        assert_eq!(key("KAFKA_ADVERTISED_LISTENERS"), "advertised.listeners");
        assert_eq!(key("KAFKA_NODE_ID"), "node.id");
        assert_eq!(key("KAFKA_A__B___C_D"), "a_b-c.d");
        assert_eq!(key("KAFKA_OTTLA_HTTP_LISTENERS"), "ottla.http.listeners");
        assert_eq!(key("CLUSTER_ID"), "ottla.cluster.id");
    }

    #[test]
    fn variables_of_the_java_machine_and_of_kubernetes_are_not_configuration() {
        for variable in [
            "KAFKA_HEAP_OPTS",
            "KAFKA_JMX_PORT",
            "KAFKA_LOG4J_LOGGERS",
            "PATH",
            "KAFKA_",
        ] {
            assert_eq!(key_of_variable(variable), None, "{variable}");
        }
        assert_eq!(key_of_setting("KAFKA_PORT", "tcp://10.0.0.1:9092"), None);
        assert_eq!(key_of_setting("KAFKA_SERVICE_HOST", "10.0.0.1"), None);
        assert_eq!(key_of_setting("KAFKA_PORT_9092_TCP_ADDR", "10.0.0.1"), None);
        assert_eq!(
            key_of_setting("KAFKA_PORT", "9092").as_deref(),
            Some("port")
        );
    }
}
