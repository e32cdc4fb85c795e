"""Reads Apache Kafka's message schemas: the JSON files inside the kafka-clients jar.

The jar is fetched with Maven into a cache outside the clone and is needed only when the generated
files are made again; `shapes.py` describes what is generated from it.
"""

import json
import os
import re
import subprocess
import zipfile
from pathlib import Path

ARTIFACT = "org.apache.kafka:kafka-clients"
VERSION = "4.3.0"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ottla" / "kafka"

# The last version kafka-protocol 0.18 (schemas of Kafka 4.1) can decode, where it is not the
# schema's own and `src/messages/newer.rs` has no struct for it. A test of this crate compares the
# outcome with the structs.
CRATE_MAX = {
    "InitProducerId": 5,
    "WriteTxnMarkers": 1,
    "BrokerHeartbeat": 1,
    "ShareFetch": 1,
    "ShareAcknowledge": 1,
    "WriteShareGroupState": 0,
    "ReadShareGroupStateSummary": 0,
    "DescribeShareGroupOffsets": 0,
}
# APIs kafka-protocol 0.18 does not have.
CRATE_MISSING = {"StreamsGroupHeartbeat", "StreamsGroupDescribe"}


def jar() -> Path:
    """The path of the kafka-clients jar, downloaded if needed."""
    path = CACHE / f"kafka-clients-{VERSION}.jar"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        artifact = f"-Dartifact={ARTIFACT}:{VERSION}"
        command = ["mvn", "-q", "dependency:copy", artifact, f"-DoutputDirectory={CACHE}"]
        subprocess.run(command, check=True)
    return path


def parse(text: str) -> dict:
    """JSON with `//` comments; no string of the schemas contains two slashes after a delimiter."""
    text = re.sub(r"^\s*//.*$", "", text, flags=re.M)
    text = re.sub(r'([,{\[\]}"])\s*//.*$', r"\1", text, flags=re.M)
    return json.loads(text)


def versions(text: str | None) -> tuple[int, int]:
    """`"3-7"`, `"3+"`, `"3"` or `"none"` as an inclusive range."""
    if text is None or text == "none":
        return (0, -1)
    if text.endswith("+"):
        return (int(text[:-1]), 32767)
    low, _, high = text.partition("-")
    return (int(low), int(high or low))


class Api:
    """One API: its two schemas and the versions our codec decodes."""

    def __init__(self, request: dict, response: dict):
        self.key = request["apiKey"]
        self.name = request["name"].removesuffix("Request")
        self.request = request
        self.response = response
        self.min, schema_max = versions(request["validVersions"])
        self.max = CRATE_MAX.get(self.name, schema_max)
        flexible = versions(request["flexibleVersions"])
        self.flexible_from = flexible[0] if flexible[1] >= 0 else 32767


def load() -> list[Api]:
    """The APIs kafka-protocol has, by key."""
    messages = {}
    with zipfile.ZipFile(jar()) as archive:
        for name in archive.namelist():
            if re.fullmatch(r"common/message/\w+(Request|Response)\.json", name):
                schema = parse(archive.read(name).decode())
                messages[schema["name"]] = schema
    apis = []
    for name, request in messages.items():
        api = name.removesuffix("Request")
        dead = request["validVersions"] == "none"
        if name.endswith("Request") and not dead and api not in CRATE_MISSING:
            apis.append(Api(request, messages[api + "Response"]))
    return sorted(apis, key=lambda api: api.key)
