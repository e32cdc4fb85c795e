#!/usr/bin/env bash
# Writes protocol/tests/golden/*.hex with Apache Kafka's own serializer (kafka-clients 4.3.0).
# Needs a JDK 17 and Maven; the jars go into Maven's cache, nothing is added to the clone but the
# golden files. Run it again only when APIs or versions are added.
set -euo pipefail
cd "$(dirname "$0")"
mvn -q dependency:get -Dartifact=org.apache.kafka:kafka-clients:4.3.0
repository="${HOME}/.m2/repository"
classpath=""
for jar in org/apache/kafka/kafka-clients/4.3.0/kafka-clients-4.3.0.jar \
    org/slf4j/slf4j-api/1.7.36/slf4j-api-1.7.36.jar \
    at/yawk/lz4/lz4-java/1.10.2/lz4-java-1.10.2.jar \
    org/xerial/snappy/snappy-java/1.1.10.7/snappy-java-1.1.10.7.jar \
    com/github/luben/zstd-jni/1.5.6-10/zstd-jni-1.5.6-10.jar; do
    classpath="${classpath}:${repository}/${jar}"
done
java -cp "${classpath#:}" Golden.java ../tests/golden
