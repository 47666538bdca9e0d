"""The other end of the exchange with zenoh-ros2-sdk: publishers, subscribers and tokens are the package's own.

`echo` publishes every message that it hears on /nudge/... again on /sdk/..., field by field. `robot` is an arm of two joints
that publishes joint states and goes where it is told. Both end when their standard input does, and print one JSON object.
"""

import argparse
import json
import os
import sys
import threading
from pathlib import Path

import numpy as np
from zenoh_ros2_sdk import ROS2Publisher, ROS2Subscriber
from zenoh_ros2_sdk.discovery import get_topic_names_and_types

DEFINITIONS = Path(__file__).parents[2] / "crates/wire/src/definitions"
DOMAIN = 7
HASHES = {
    "sensor_msgs/msg/JointState": "RIHS01_a13ee3a330e346c9d87b5aa18d24e11690752bd33a0350f11c5882bc9179260e",
    "std_msgs/msg/Float64MultiArray": "RIHS01_1025ddc6b9552d191f89ef1a8d2f60f3d373e28b283d8891ddcc974e8c55397f",
}
JOINTS, ARRAY = HASHES
FIELDS = {JOINTS: ["header", "name", "position", "velocity", "effort"], ARRAY: ["layout", "data"]}


class Peer:
    def __init__(self, port):
        self.port = port

    def options(self, topic, kind):
        definition = (DEFINITIONS / f"{kind.split('/')[-1]}.msg").read_text()
        return {
            "topic": topic,
            "msg_type": kind,
            "msg_definition": definition,
            "type_hash": HASHES[kind],
            "domain_id": DOMAIN,
            "router_port": self.port,
        }

    def publisher(self, topic, kind):
        return ROS2Publisher(node_name="driver", **self.options(topic, kind))

    def subscriber(self, topic, kind, heard):
        return ROS2Subscriber(node_name="driver", callback=heard, **self.options(topic, kind))


def wait_for_end():
    print("ready", flush=True)
    sys.stdin.read()


def echo(peer):
    counts = {}
    for kind, topic in [(JOINTS, "joint_states"), (ARRAY, "array")]:
        publisher = peer.publisher(f"/sdk/{topic}", kind)

        def again(message, publisher=publisher, topic=topic, fields=FIELDS[kind]):
            publisher.publish(**{field: getattr(message, field) for field in fields})
            counts[topic] = counts.get(topic, 0) + 1

        peer.subscriber(f"/nudge/{topic}", kind, again)
    wait_for_end()
    return counts


def robot(peer):
    position, commands, ended = [100.0, 200.0], [], threading.Event()
    states = peer.publisher("/arm/joint_states", JOINTS)
    types = states.session_mgr.store.types
    stamp = types["builtin_interfaces/msg/Time"](sec=1, nanosec=2)
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="base")

    def go(message):
        commands.append(list(message.data))
        position[:] = message.data

    peer.subscriber("/arm/commands", ARRAY, go)

    def publish():
        while not ended.wait(0.02):
            shoulder, elbow = position
            states.publish(
                header=header,
                name=["elbow", "wrist", "shoulder"],
                position=np.array([elbow, 99.0, shoulder]),
                velocity=np.array([0.5, 98.0, 97.0]),
                effort=np.array([]),
            )

    publishing = threading.Thread(target=publish)
    publishing.start()
    wait_for_end()
    topics = get_topic_names_and_types(domain_id=DOMAIN, router_port=peer.port)
    ended.set()
    publishing.join()
    return {"commands": len(commands), "last": commands[-1] if commands else None, "topics": topics}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["echo", "robot"])
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    said = {"echo": echo, "robot": robot}[options.role](Peer(options.port))
    print(json.dumps(said), flush=True)
    # The package keeps its session open, which would keep the process from ending.
    os._exit(0)


if __name__ == "__main__":
    main()
