"""A robot on the wire: a point that goes where it is told, before a T that lies where it lies.

    pip install eclipse-zenoh rosbags
    python examples/python/robot.py
    nudge serve checkpoints/push_t --robot configs/robots/push_t.toml

It says what it is, publishes what it observes, and takes commands; when they end, it holds. Where it listens may be given.
"""

import json
import secrets
import struct
import sys
import time

import numpy as np
import zenoh
from rosbags.typesys import Stores, get_typestore

PREFIX, HZ, SILENCE_SECS, MOST_PX = "push_t", 10.0, 0.25, 20.0
FLOATS = "std_msgs/msg/Float64MultiArray"
T_CORNERS = [240, 250, 360, 250, 360, 220, 240, 220, 285, 250, 285, 340, 315, 340, 315, 250]
TYPES, GID = get_typestore(Stores.ROS2_JAZZY), secrets.token_bytes(16)


def encode(numbers):
    layout = TYPES.types["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
    message = TYPES.types[FLOATS](layout=layout, data=np.array(numbers, dtype=np.float64))
    return bytes(TYPES.serialize_cdr(message, FLOATS))


def describe(query):
    feature = lambda name, dim: {"name": name, "kind": "vector", "shape": [dim], "unit": "px"}
    action = feature("action", 2) | {"mode": "absolute", "limits": {"low": [0.0] * 2, "high": [512.0] * 2}}
    observed = [feature("observation.state", 2), feature("observation.environment_state", 16)]
    interface = {"observation": observed, "action": [action], "control_hz": HZ}
    answer = {"role": "robot", "protocol": 1, "robot": PREFIX, "interface": interface, "pace": "clock"}
    query.reply(query.key_expr, json.dumps(answer))


config = zenoh.Config()
config.insert_json5("listen/endpoints", json.dumps(sys.argv[1:] or ["tcp/127.0.0.1:7447"]))
config.insert_json5("scouting/multicast/enabled", "false")
session = zenoh.open(config)
answering = session.declare_queryable(f"{PREFIX}/rpc/describe", describe)
commanded = {"at": -np.inf, "payload": b""}
heard = lambda sample: commanded.update(at=time.monotonic(), payload=sample.payload.to_bytes())
listening = session.declare_subscriber(f"{PREFIX}/act/cmd", heard)
place, sequence = np.array([100.0, 150.0]), 0
while True:
    sequence += 1
    attachment = struct.pack("<qqB", sequence, time.time_ns(), len(GID)) + GID
    for name, numbers in {"state": place, "environment_state": T_CORNERS}.items():
        session.put(f"{PREFIX}/obs/observation.{name}", encode(numbers), attachment=attachment)
    time.sleep(1.0 / HZ)
    state = "driven" if time.monotonic() - commanded["at"] < SILENCE_SECS else "holding"
    if state == "driven":
        target = TYPES.deserialize_cdr(commanded["payload"], FLOATS).data
        place = place + np.clip(target - place, -MOST_PX, MOST_PX)
    print(state, place.round(1).tolist(), flush=True)
