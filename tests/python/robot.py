"""A Push-T-like robot in Python: the native protocol once more, from its text and from other people's libraries.

The agent follows its target by the law of Push-T; the block is too heavy to move. Prints one JSON object about what it
saw, and exits with an error as soon as the controller does what it must not.
"""

import argparse
import importlib.metadata
import json
import math
import queue
import secrets
import struct
import time

import numpy as np
import zenoh
from rosbags.typesys import Stores, get_typestore

PREFIX = "push_t"
TYPES = get_typestore(Stores.ROS2_JAZZY)
FLOATS = "std_msgs/msg/Float64MultiArray"
GID = secrets.token_bytes(16)
LIMITS = (0.0, 512.0)
DEADLINE_SECS = 60.0
# Corners of the T, bar and stem, around the middle of the bar's outer edge.
CORNERS = [(-60, 30), (60, 30), (60, 0), (-60, 0), (-15, 30), (-15, 120), (15, 120), (15, 30)]


def attachment(sequence, stamp_ns):
    return struct.pack("<qqB", sequence, stamp_ns, len(GID)) + GID


def read_attachment(sample):
    assert sample.attachment is not None, f"{sample.key_expr} came without an attachment"
    data = sample.attachment.to_bytes()
    assert len(data) == 33 and data[16] == 16, f"{sample.key_expr} came with {len(data)} attached bytes"
    sequence, stamp_ns = struct.unpack("<qq", data[:16])
    assert abs(stamp_ns - time.time_ns()) < 60e9, "the source time is not the wall clock"
    return sequence, data[17:]


def encode(values):
    layout = TYPES.types["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
    message = TYPES.types[FLOATS](layout=layout, data=np.array(values, dtype=np.float64))
    return bytes(TYPES.serialize_cdr(message, FLOATS))


def decode(sample, kind=FLOATS):
    assert str(sample.encoding) == f"application/cdr;{kind}", sample.encoding
    return TYPES.deserialize_cdr(sample.payload.to_bytes(), kind)


class Robot:
    def __init__(self, endpoint, pace):
        config = zenoh.Config()
        config.insert_json5("mode", '"peer"')
        config.insert_json5("listen/endpoints", json.dumps([endpoint]))
        config.insert_json5("scouting/multicast/enabled", "false")
        self.session = zenoh.open(config)
        self.pace = pace
        self.sequence = 0
        self.agent, self.velocity = np.array([100.0, 150.0]), np.zeros(2)
        turn = math.pi / 5
        rotate = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        self.corners = (np.array(CORNERS) @ rotate.T + np.array([300.0, 250.0])).flatten()
        self.commands, self.chunks, self.failures = queue.Queue(), [], []
        self.status, self.heartbeats = {}, 0
        self.session.declare_queryable(f"{PREFIX}/rpc/describe", self.describe)
        for key, heard in [
            ("act/cmd", self.on_command),
            ("act/chunk", self.on_chunk),
            ("ctl/status", self.on_status),
            ("ctl/heartbeat", self.on_heartbeat),
        ]:
            self.session.declare_subscriber(f"{PREFIX}/{key}", self.checked(heard))
        self.publishers = {
            name: self.session.declare_publisher(
                f"{PREFIX}/obs/{name}",
                encoding=zenoh.Encoding(f"application/cdr;{FLOATS}"),
                priority=zenoh.Priority.DATA_HIGH,
                congestion_control=zenoh.CongestionControl.DROP,
                express=True,
            )
            for name in ["observation.state", "observation.environment_state"]
        }

    def checked(self, heard):
        """Failures in callbacks must not be lost."""

        def run(sample):
            try:
                heard(sample)
            except Exception as failure:
                self.failures.append(f"{sample.key_expr}: {failure!r}")

        return run

    def describe(self, query):
        feature = lambda name, dim: {"name": name, "kind": "vector", "shape": [dim], "unit": "px"}
        limits = {"low": [LIMITS[0]] * 2, "high": [LIMITS[1]] * 2}
        interface = {
            "observation": [feature("observation.state", 2), feature("observation.environment_state", 16)],
            "action": [feature("action", 2) | {"mode": "absolute", "limits": limits}],
            "control_hz": 10.0,
        }
        answer = {
            "role": "robot",
            "protocol": 1,
            "robot": "push_t in python",
            "interface": interface,
            "pace": self.pace,
            "versions": {"eclipse-zenoh": importlib.metadata.version("eclipse-zenoh")},
        }
        query.reply(query.key_expr, json.dumps(answer), encoding="application/json")

    def on_command(self, sample):
        sequence, gid = read_attachment(sample)
        values = decode(sample).data
        assert len(values) == 2 and np.isfinite(values).all(), values
        assert (values >= LIMITS[0]).all() and (values <= LIMITS[1]).all(), values
        self.commands.put((sequence, gid, np.array(values)))

    def on_chunk(self, sample):
        sequence, _ = read_attachment(sample)
        chunk = decode(sample)
        dims = [(dim.label, dim.size, dim.stride) for dim in chunk.layout.dim]
        steps = len(chunk.data) // 2
        assert dims == [("step", steps, 2 * steps), ("action", 2, 2)], dims
        assert 1 <= sequence <= self.sequence, f"planned from {sequence}, and {self.sequence} were sent"
        self.chunks.append(sequence)

    def on_status(self, sample):
        read_attachment(sample)
        status = json.loads(sample.payload.to_bytes())
        assert {"role", "state", "reason", "counters", "timings_ms"} <= status.keys(), status
        if status["role"] == "controller":
            self.status = status

    def on_heartbeat(self, sample):
        read_attachment(sample)
        if decode(sample, "std_msgs/msg/String").data == "controller":
            self.heartbeats += 1

    def send(self, state=None):
        stamp_ns = time.time_ns()
        parts = {"observation.state": self.agent if state is None else state}
        parts["observation.environment_state"] = self.corners
        for name, values in parts.items():
            self.publishers[name].put(encode(values), attachment=attachment(self.sequence, stamp_ns))

    def observe(self, state=None):
        self.sequence += 1
        self.send(state)

    def call(self, name, payload=None):
        for reply in self.session.get(f"{PREFIX}/{name}", payload=json.dumps(payload or {}), timeout=2.0):
            if reply.ok is not None:
                return json.loads(reply.ok.payload.to_bytes())
        return None

    def until(self, what, condition):
        end = time.monotonic() + DEADLINE_SECS
        while not condition():
            assert not self.failures, self.failures
            assert time.monotonic() < end, f"waited {DEADLINE_SECS} s for: {what}; status {self.status}"
            time.sleep(0.005)

    def reset(self, seed, episode):
        accepted = lambda: (self.call("rpc/reset", {"seed": seed, "episode": episode}) or {}).get("ok") is True
        self.until("a controller that answers the reset", accepted)
        while not self.commands.empty():
            self.commands.get()

    def answer(self):
        """Lockstep: the command to the observation just sent, which is sent again every second."""
        end = time.monotonic() + DEADLINE_SECS
        while time.monotonic() < end:
            assert not self.failures, self.failures
            try:
                sequence, _, values = self.commands.get(timeout=1.0)
            except queue.Empty:
                self.send()
                continue
            assert sequence <= self.sequence, "a command to an observation that was not sent"
            if sequence == self.sequence:
                return values
        raise AssertionError(f"no command to observation {self.sequence}")

    def newest_until(self, end):
        """The clock's pace: the newest command before `end`."""
        newest = None
        while (left := end - time.monotonic()) > 0:
            try:
                sequence, _, newest = self.commands.get(timeout=left)
            except queue.Empty:
                continue
            assert sequence > self.last_command, "commands must rise"
            self.last_command = sequence
        return newest

    def move(self, target):
        for _ in range(10):
            self.velocity += (100.0 * (target - self.agent) - 20.0 * self.velocity) * 0.01
            self.agent = self.agent + self.velocity * 0.01

    def lockstep(self, steps):
        self.reset(seed=7, episode=0)
        for _ in range(steps):
            self.observe()
            self.move(self.answer())
        # The same observation again: the same command, and no plan.
        self.observe()
        first = self.answer()
        self.send()
        assert (self.answer() == first).all(), "a repeated observation got another command"
        # Not a number: held where it was measured last.
        self.observe(state=[math.nan, 1.0])
        held = self.answer()
        assert np.allclose(held, self.agent, atol=1e-9), f"held at {held} and not {self.agent}"
        assert len(set(self.chunks)) == len(self.chunks), "an observation was planned from twice"
        assert self.sequence not in self.chunks, "what is not a number was planned from"
        return 0

    def clock(self, steps):
        self.reset(seed=7, episode=0)
        self.last_command, missing = 0, 0
        end = time.monotonic()
        for _ in range(steps):
            end += 0.1
            self.observe()
            command = self.newest_until(end)
            missing += command is None
            self.move(self.agent if command is None else command)
        # Silence: held at the last measured place.
        self.until("a hold", lambda: self.status.get("reason") == "observation_stale")
        held = self.newest_until(time.monotonic() + 0.5)
        assert held is not None and np.isfinite(held).all(), "a hold commands the measured place"
        return missing

    def stop_and_release(self):
        estop = lambda value: self.session.put(
            f"{PREFIX}/ctl/estop",
            bytes([0, 1, 0, 0, value]),
            encoding="application/cdr;std_msgs/msg/Bool",
            attachment=attachment(1, time.time_ns()),
        )

        def stopped():
            estop(1)
            return self.status.get("state") == "Stopped"

        self.until("the stop", stopped)
        estop(0)
        while not self.commands.empty():
            self.commands.get()
        for _ in range(5):
            self.observe()
            time.sleep(0.1)
        assert self.commands.empty(), "a stopped controller commanded"

        def released():
            self.observe()
            time.sleep(0.02)
            return (self.call("rpc/release") or {}).get("ok") is True

        self.until("the release", released)

        def commanded():
            self.observe()
            time.sleep(0.05)
            return not self.commands.empty()

        self.until("commands after the release", commanded)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--pace", choices=["clock", "observation"], required=True)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    robot = Robot(options.endpoint, options.pace)
    begun = time.monotonic()
    try:
        missing = robot.lockstep(options.steps) if options.pace == "observation" else robot.clock(options.steps)
        robot.stop_and_release()
        assert not robot.failures, robot.failures
        assert robot.heartbeats > 2 * (time.monotonic() - begun), "the controller hardly beat"
        seen = {"missing": missing, "chunks": len(robot.chunks), "status": robot.status}
        print(json.dumps({"steps": options.steps} | seen))
    finally:
        # An open session would keep the process from ending.
        robot.session.close()


if __name__ == "__main__":
    main()
