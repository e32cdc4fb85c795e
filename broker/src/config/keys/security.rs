//! Keys of authentication, encryption, authorization and delegation tokens.

use super::why;
use crate::config::key::{
    Key, KeyType, boolean, class, double, int, list, long, password, short, text, unset,
};

pub(super) const KEYS: &[Key] = &[
    boolean(
        "allow.everyone.if.no.acl.found",
        "false",
        "Whether a resource without any access rule is open to everybody.",
    )
    .listed_when_set()
    .without_effect(why::ACLS),
    text(
        "authorizer.class.name",
        "",
        "Class that decides who may do what.",
    )
    .without_effect(why::ACLS),
    long(
        "delegation.token.expiry.check.interval.ms",
        "3600000",
        "Time between searches for expired delegation tokens.",
    )
    .at_least(1)
    .without_effect(why::TOKENS),
    long(
        "delegation.token.expiry.time.ms",
        "86400000",
        "Time after which a delegation token must be renewed.",
    )
    .at_least(1)
    .without_effect(why::TOKENS),
    long(
        "delegation.token.max.lifetime.ms",
        "604800000",
        "Time after which a delegation token cannot be renewed.",
    )
    .at_least(1)
    .without_effect(why::TOKENS),
    password(
        "delegation.token.secret.key",
        "Secret that signs delegation tokens.",
    )
    .without_effect(why::TOKENS),
    class(
        "principal.builder.class",
        "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder",
        "Java class that names the user behind a connection.",
    )
    .per_broker()
    .without_effect(why::JAVA),
    text(
        "security.inter.broker.protocol",
        "PLAINTEXT",
        "Security protocol between brokers when inter.broker.listener.name is not set.",
    )
    .one_of(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
    .without_effect(why::ONE_NODE),
    unset(
        "security.providers",
        KeyType::String,
        "Java classes that provide cryptographic algorithms.",
    )
    .without_effect(why::JAVA),
    text(
        "super.users",
        "",
        "Users that may do everything, separated by semicolons.",
    )
    .listed_when_set()
    .without_effect(why::ACLS),
];

pub(super) const SASL_KEYS: &[Key] = &[
    unset(
        "sasl.client.callback.handler.class",
        KeyType::Class,
        "Java class that supplies this broker's own credentials.",
    )
    .without_effect(why::JAVA),
    list(
        "sasl.enabled.mechanisms",
        "GSSAPI",
        "SASL mechanisms that clients may use.",
    )
    .per_broker()
    .without_effect(why::SASL),
    password(
        "sasl.jaas.config",
        "Login settings of a listener's SASL mechanism, in JAAS form.",
    )
    .per_broker()
    .without_effect(why::SASL),
    text(
        "sasl.kerberos.kinit.cmd",
        "/usr/bin/kinit",
        "Path of Kerberos' kinit command.",
    )
    .per_broker()
    .without_effect(why::SASL),
    long(
        "sasl.kerberos.min.time.before.relogin",
        "60000",
        "Shortest time between two Kerberos logins.",
    )
    .per_broker()
    .without_effect(why::SASL),
    list(
        "sasl.kerberos.principal.to.local.rules",
        "DEFAULT",
        "Rules that turn Kerberos principals into user names.",
    )
    .per_broker()
    .without_effect(why::SASL),
    unset(
        "sasl.kerberos.service.name",
        KeyType::String,
        "Kerberos name that the brokers run under.",
    )
    .per_broker()
    .without_effect(why::SASL),
    double(
        "sasl.kerberos.ticket.renew.jitter",
        "0.05",
        "Random share added to the time at which a Kerberos ticket is renewed.",
    )
    .per_broker()
    .without_effect(why::SASL),
    double(
        "sasl.kerberos.ticket.renew.window.factor",
        "0.8",
        "Share of a Kerberos ticket's life after which it is renewed.",
    )
    .per_broker()
    .without_effect(why::SASL),
    unset(
        "sasl.login.callback.handler.class",
        KeyType::Class,
        "Java class that answers questions of the login.",
    )
    .without_effect(why::JAVA),
    unset(
        "sasl.login.class",
        KeyType::Class,
        "Java class that performs the login.",
    )
    .without_effect(why::JAVA),
    unset(
        "sasl.login.connect.timeout.ms",
        KeyType::Int,
        "Longest wait for a connection to the token server.",
    )
    .without_effect(why::SASL),
    unset(
        "sasl.login.read.timeout.ms",
        KeyType::Int,
        "Longest wait for an answer of the token server.",
    )
    .without_effect(why::SASL),
    short(
        "sasl.login.refresh.buffer.seconds",
        "300",
        "Time before its expiry at which a token is renewed at the latest.",
    )
    .between(0, 3600)
    .per_broker()
    .without_effect(why::SASL),
    short(
        "sasl.login.refresh.min.period.seconds",
        "60",
        "Shortest time between two renewals of a token.",
    )
    .between(0, 900)
    .per_broker()
    .without_effect(why::SASL),
    double(
        "sasl.login.refresh.window.factor",
        "0.8",
        "Share of a token's life after which it is renewed.",
    )
    .between_doubles(0.5, 1.0)
    .per_broker()
    .without_effect(why::SASL),
    double(
        "sasl.login.refresh.window.jitter",
        "0.05",
        "Random share added to the time at which a token is renewed.",
    )
    .between_doubles(0.0, 0.25)
    .per_broker()
    .without_effect(why::SASL),
    long(
        "sasl.login.retry.backoff.max.ms",
        "10000",
        "Longest pause between attempts to reach the token server.",
    )
    .without_effect(why::SASL),
    long(
        "sasl.login.retry.backoff.ms",
        "100",
        "First pause between attempts to reach the token server.",
    )
    .without_effect(why::SASL),
    text(
        "sasl.mechanism.controller.protocol",
        "GSSAPI",
        "SASL mechanism between brokers and controllers.",
    )
    .without_effect(why::ONE_NODE),
    text(
        "sasl.mechanism.inter.broker.protocol",
        "GSSAPI",
        "SASL mechanism between brokers.",
    )
    .per_broker()
    .without_effect(why::ONE_NODE),
    text(
        "sasl.oauthbearer.assertion.algorithm",
        "RS256",
        "Algorithm that signs the assertions sent to the token server.",
    )
    .without_effect(why::SASL),
    unset(
        "sasl.oauthbearer.assertion.claim.aud",
        KeyType::String,
        "Audience named in an assertion.",
    )
    .without_effect(why::SASL),
    int(
        "sasl.oauthbearer.assertion.claim.exp.seconds",
        "300",
        "Time for which an assertion is valid.",
    )
    .without_effect(why::SASL),
    unset(
        "sasl.oauthbearer.assertion.claim.iss",
        KeyType::String,
        "Issuer named in an assertion.",
    )
    .without_effect(why::SASL),
    boolean(
        "sasl.oauthbearer.assertion.claim.jti.include",
        "false",
        "Whether an assertion carries an id of its own.",
    )
    .without_effect(why::SASL),
    int(
        "sasl.oauthbearer.assertion.claim.nbf.seconds",
        "60",
        "Time before its creation from which an assertion is valid.",
    )
    .without_effect(why::SASL),
    unset(
        "sasl.oauthbearer.assertion.claim.sub",
        KeyType::String,
        "Subject named in an assertion.",
    )
    .without_effect(why::SASL),
    unset(
        "sasl.oauthbearer.assertion.file",
        KeyType::String,
        "File with a ready-made assertion.",
    )
    .without_effect(why::SASL),
    unset(
        "sasl.oauthbearer.assertion.private.key.file",
        KeyType::String,
        "File with the private key that signs assertions.",
    )
    .without_effect(why::SASL),
    password(
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "Passphrase of the private key that signs assertions.",
    )
    .without_effect(why::SASL),
    unset(
        "sasl.oauthbearer.assertion.template.file",
        KeyType::String,
        "File with further claims of an assertion.",
    )
    .without_effect(why::SASL),
    unset(
        "sasl.oauthbearer.client.credentials.client.id",
        KeyType::String,
        "Client id of this broker at the token server.",
    )
    .without_effect(why::SASL),
    password(
        "sasl.oauthbearer.client.credentials.client.secret",
        "Client secret of this broker at the token server.",
    )
    .without_effect(why::SASL),
    int(
        "sasl.oauthbearer.clock.skew.seconds",
        "30",
        "Difference that the clocks of issuer and broker may have.",
    )
    .without_effect(why::SASL),
    list(
        "sasl.oauthbearer.expected.audience",
        "",
        "Audiences of which a token must name one.",
    )
    .without_effect(why::SASL),
    unset(
        "sasl.oauthbearer.expected.issuer",
        KeyType::String,
        "Issuer that a token must come from.",
    )
    .without_effect(why::SASL),
    long(
        "sasl.oauthbearer.jwks.endpoint.refresh.ms",
        "3600000",
        "Time after which the token server's keys are fetched again.",
    )
    .without_effect(why::SASL),
    long(
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
        "10000",
        "Longest pause between attempts to fetch the token server's keys.",
    )
    .without_effect(why::SASL),
    long(
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms",
        "100",
        "First pause between attempts to fetch the token server's keys.",
    )
    .without_effect(why::SASL),
    unset(
        "sasl.oauthbearer.jwks.endpoint.url",
        KeyType::String,
        "Where the token server publishes its keys.",
    )
    .without_effect(why::SASL),
    class(
        "sasl.oauthbearer.jwt.retriever.class",
        "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever",
        "Java class that obtains this broker's own token.",
    )
    .without_effect(why::JAVA),
    class(
        "sasl.oauthbearer.jwt.validator.class",
        "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator",
        "Java class that checks tokens.",
    )
    .without_effect(why::JAVA),
    unset(
        "sasl.oauthbearer.scope",
        KeyType::String,
        "Scope asked for at the token server.",
    )
    .without_effect(why::SASL),
    text(
        "sasl.oauthbearer.scope.claim.name",
        "scope",
        "Claim of a token that holds its scope.",
    )
    .without_effect(why::SASL),
    text(
        "sasl.oauthbearer.sub.claim.name",
        "sub",
        "Claim of a token that holds the user's name.",
    )
    .without_effect(why::SASL),
    unset(
        "sasl.oauthbearer.token.endpoint.url",
        KeyType::String,
        "Where this broker's own token is fetched.",
    )
    .without_effect(why::SASL),
    unset(
        "sasl.server.callback.handler.class",
        KeyType::Class,
        "Java class that checks the credentials of clients.",
    )
    .without_effect(why::JAVA),
    int(
        "sasl.server.max.receive.size",
        "524288",
        "Largest message of a client before it is authenticated.",
    )
    .without_effect(why::SASL),
];

pub(super) const SSL_KEYS: &[Key] = &[
    boolean(
        "ssl.allow.dn.changes",
        "false",
        "Whether a new certificate may have another name than the one it replaces.",
    )
    .without_effect(why::TLS),
    boolean(
        "ssl.allow.san.changes",
        "false",
        "Whether a new certificate may miss alternative names of the one it replaces.",
    )
    .without_effect(why::TLS),
    list(
        "ssl.cipher.suites",
        "",
        "Cipher suites that are offered; empty for the library's choice.",
    )
    .per_broker()
    .without_effect(why::TLS),
    text(
        "ssl.client.auth",
        "none",
        "Whether clients must, may or need not show a certificate.",
    )
    .one_of(&["required", "requested", "none"])
    .per_broker()
    .without_effect(why::TLS),
    list(
        "ssl.enabled.protocols",
        "TLSv1.2,TLSv1.3",
        "TLS versions that are offered.",
    )
    .per_broker()
    .without_effect(why::TLS),
    text(
        "ssl.endpoint.identification.algorithm",
        "https",
        "How a server's name is checked against its certificate; empty for not at all.",
    )
    .per_broker()
    .without_effect(why::TLS),
    unset(
        "ssl.engine.factory.class",
        KeyType::Class,
        "Java class that makes TLS engines.",
    )
    .per_broker()
    .without_effect(why::JAVA),
    password("ssl.key.password", "Password of the private key.")
        .per_broker()
        .without_effect(why::TLS),
    text(
        "ssl.keymanager.algorithm",
        "SunX509",
        "Java algorithm that handles keys.",
    )
    .per_broker()
    .without_effect(why::JAVA),
    password(
        "ssl.keystore.certificate.chain",
        "Certificate chain of the broker, in PEM form.",
    )
    .per_broker()
    .without_effect(why::TLS),
    password(
        "ssl.keystore.key",
        "Private key of the broker, in PEM form.",
    )
    .per_broker()
    .without_effect(why::TLS),
    unset(
        "ssl.keystore.location",
        KeyType::String,
        "File with the private key and certificate of the broker.",
    )
    .per_broker()
    .without_effect(why::TLS),
    password("ssl.keystore.password", "Password of the key store.")
        .per_broker()
        .without_effect(why::TLS),
    text("ssl.keystore.type", "JKS", "Format of the key store.")
        .per_broker()
        .without_effect(why::TLS),
    text(
        "ssl.principal.mapping.rules",
        "DEFAULT",
        "Rules that turn a certificate's name into a user name.",
    )
    .without_effect(why::TLS),
    text("ssl.protocol", "TLSv1.3", "TLS version that is preferred.")
        .per_broker()
        .without_effect(why::TLS),
    unset("ssl.provider", KeyType::String, "Java provider of TLS.")
        .per_broker()
        .without_effect(why::JAVA),
    unset(
        "ssl.secure.random.implementation",
        KeyType::String,
        "Java source of random numbers for TLS.",
    )
    .per_broker()
    .without_effect(why::JAVA),
    text(
        "ssl.trustmanager.algorithm",
        "PKIX",
        "Java algorithm that checks certificates.",
    )
    .per_broker()
    .without_effect(why::JAVA),
    password(
        "ssl.truststore.certificates",
        "Certificates that are trusted, in PEM form.",
    )
    .per_broker()
    .without_effect(why::TLS),
    unset(
        "ssl.truststore.location",
        KeyType::String,
        "File with the certificates that are trusted.",
    )
    .per_broker()
    .without_effect(why::TLS),
    password("ssl.truststore.password", "Password of the trust store.")
        .per_broker()
        .without_effect(why::TLS),
    text("ssl.truststore.type", "JKS", "Format of the trust store.")
        .per_broker()
        .without_effect(why::TLS),
];
