"""Writes one message of each type that Nudge speaks, as rosbags writes it, with its type's hash and definition.

Prints one JSON object by type name; `crates/wire/tests/rosbags.rs` holds Nudge's bytes against it.
"""

import json

import numpy as np
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)


def make(kind, /, **fields):
    return STORE.types[kind](**fields)


def floats(*numbers):
    return np.array(numbers, dtype=np.float64)


STAMP = make("builtin_interfaces/msg/Time", sec=1_700_000_000, nanosec=123_456_789)
HEADER = make("std_msgs/msg/Header", stamp=STAMP, frame_id="base_link")


def vector(x, y, z):
    return make("geometry_msgs/msg/Vector3", x=x, y=y, z=z)


def dimension(label, size, stride):
    return make("std_msgs/msg/MultiArrayDimension", label=label, size=size, stride=stride)


def point(positions, velocities, secs, nanosec):
    return make(
        "trajectory_msgs/msg/JointTrajectoryPoint",
        positions=floats(*positions),
        velocities=floats(*velocities),
        accelerations=floats(),
        effort=floats(),
        time_from_start=make("builtin_interfaces/msg/Duration", sec=secs, nanosec=nanosec),
    )


MESSAGES = {
    "std_msgs/msg/Bool": {"data": True},
    "std_msgs/msg/String": {"data": "grüße"},
    "std_msgs/msg/Float64MultiArray": {
        "layout": make(
            "std_msgs/msg/MultiArrayLayout",
            dim=[dimension("step", 2, 4), dimension("action", 2, 2)],
            data_offset=0,
        ),
        "data": floats(0.25, -0.5, 1e300, 4.0),
    },
    "sensor_msgs/msg/JointState": {
        "header": HEADER,
        "name": ["shoulder", "elbow", "w"],
        "position": floats(0.1, 0.2, 0.3),
        "velocity": floats(-1.0, -2.0, -3.0),
        "effort": floats(),
    },
    "trajectory_msgs/msg/JointTrajectory": {
        "header": HEADER,
        "joint_names": ["shoulder", "elbow"],
        "points": [point([1.0, 2.0], [0.5, 0.25], 0, 100_000_000), point([3.0, 4.0], [0.0, 0.0], 1, 5)],
    },
    "geometry_msgs/msg/PoseStamped": {
        "header": HEADER,
        "pose": make(
            "geometry_msgs/msg/Pose",
            position=make("geometry_msgs/msg/Point", x=1.0, y=2.0, z=3.0),
            orientation=make("geometry_msgs/msg/Quaternion", x=0.1, y=0.2, z=0.3, w=0.9),
        ),
    },
    "geometry_msgs/msg/TwistStamped": {
        "header": HEADER,
        "twist": make("geometry_msgs/msg/Twist", linear=vector(1.0, 2.0, 3.0), angular=vector(4.0, 5.0, 6.0)),
    },
}

print(
    json.dumps(
        {
            name: {
                "cdr": bytes(STORE.serialize_cdr(make(name, **fields), name)).hex(),
                "hash": STORE.hash_rihs01(name),
                "definition": STORE.generate_msgdef(name, ros_version=2)[0],
            }
            for name, fields in MESSAGES.items()
        }
    )
)
