"""Sets as LeRobot itself reads and writes them, for comparison with ours: `read DIR...` or `create DIR`.

Needs the package lerobot (0.4 or later), offline.
"""

import json
import math
import os
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp()

import numpy as np  # noqa: E402
from lerobot.datasets.lerobot_dataset import LeRobotDataset  # noqa: E402


def numbers(value):
    flat = value.reshape(-1).tolist()
    return [float(number) if number is not None and math.isfinite(number) else None for number in flat]


def read(root):
    """Every frame, as a program that trains would get it."""
    data = LeRobotDataset("local/set", root=root)
    frames = []
    for index in range(len(data)):
        frame = data[index]
        values = {name: numbers(frame[name]) for name in data.features}
        frames.append({"task": frame["task"], "shapes": {n: list(frame[n].shape) for n in data.features}, "values": values})
    episodes = [data.meta.episodes[number] for number in range(data.num_episodes)]
    step = 1 / data.fps
    ahead = LeRobotDataset("local/set", root=root, delta_timestamps={"action": [0.0, step, 2 * step]})
    return {
        "episodes": data.num_episodes,
        "frames": frames,
        "fps": data.fps,
        "robot_type": data.meta.robot_type,
        "bounds": [[episode["dataset_from_index"], episode["dataset_to_index"]] for episode in episodes],
        "tasks": [episode["tasks"] for episode in episodes],
        "stats": {name: {key: numbers(np.asarray(value)) for key, value in stats.items()}
                  for name, stats in data.meta.stats.items()},
        "ahead": [len(ahead[index]["action"]) for index in range(len(ahead))],
    }


def create(root):
    """Two episodes written by LeRobot."""
    features = {
        "observation.state": {"dtype": "float32", "shape": (3,), "names": None},
        "keypoints": {"dtype": "float32", "shape": (2, 2), "names": None},
        "action": {"dtype": "float32", "shape": (2,), "names": None},
    }
    data = LeRobotDataset.create("local/set", 10, features, root=root, robot_type="arm", use_videos=False)
    for episode in range(2):
        for frame in range(4):
            values = {
                name: np.arange(math.prod(feature["shape"]), dtype=np.float32).reshape(feature["shape"]) + frame
                for name, feature in features.items()
                if name in ("observation.state", "keypoints", "action")
            }
            data.add_frame({"task": f"task {episode}", **values})
        data.save_episode()
    data.finalize()
    return {"episodes": 2}


if __name__ == "__main__":
    verb, *roots = sys.argv[1:]
    for root in roots:
        print(json.dumps({"read": read, "create": create}[verb](Path(root))))
