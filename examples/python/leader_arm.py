"""A leader arm's stand-in: drives `nudge teleop push_t --bus --out circles --all` in a circle.

A real leader arm would send its own numbers in the same way: all numbers of an action in order, as a JSON array, on
the robot's key `PREFIX/teleop/cmd`, at least twice a second. Needs `pip install eclipse-zenoh`.
"""

import argparse
import json
import math
import time

import zenoh

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--connect", default="tcp/127.0.0.1:7447", help="where the robot listens")
parser.add_argument("--prefix", default="push_t", help="prefix of the robot's keys")
parser.add_argument("--rate-hz", type=float, default=20.0, help="commands a second")
parser.add_argument("--seconds", type=float, default=20.0, help="how long to drive")
options = parser.parse_args()

config = zenoh.Config()
config.insert_json5("mode", '"peer"')
config.insert_json5("scouting/multicast/enabled", "false")
config.insert_json5("connect/endpoints", json.dumps([options.connect]))
session = zenoh.open(config)


def on_state(sample):
    state = json.loads(sample.payload.to_string())
    print(f"seed {state['seed']} step {state['step']} reward {state['reward']:.3f}", flush=True)


session.declare_subscriber(f"{options.prefix}/teleop/state", on_state)
commands = session.declare_publisher(f"{options.prefix}/teleop/cmd")
begun = time.monotonic()
while (elapsed := time.monotonic() - begun) < options.seconds:
    angle = 0.5 * math.tau * elapsed / 4.0
    commands.put(json.dumps([256 + 150 * math.cos(angle), 256 + 150 * math.sin(angle)]))
    time.sleep(1.0 / options.rate_hz)
session.close()
