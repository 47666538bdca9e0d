"""Reads data sets with the libraries that wrote them, and compares every number with what Nudge reads, bit for bit.

    pip install "zarr==2.18.3" "numcodecs<0.14" h5py pyarrow numpy
    cargo build --release -p nudge-dataset --example dump
    python tests/python/compare_formats.py target/release/examples/dump SET_OR_FOLDER...

A folder that is no set is searched for sets. Ends with status 1 when anything differs.
"""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet
import zarr


def sets_in(path):
    """The data sets at or below `path`."""
    if path.is_file():
        return [path] if path.suffix in {".hdf5", ".h5"} else []
    if (path / "meta/info.json").is_file() or (path / "meta/episode_ends").is_dir():
        return [path]
    return [found for below in sorted(path.iterdir()) for found in sets_in(below)]


def flat(column):
    """`[frames, D]` of a pyarrow column of numbers or of (nested) lists of them, in their own type."""
    return np.stack([np.asarray(row).reshape(-1) for row in column.to_numpy(zero_copy_only=False)])


def read_lerobot(path):
    info = json.loads((path / "meta/info.json").read_text())
    names = [name for name, feature in info["features"].items() if feature["dtype"] not in {"image", "video", "string"}]
    if info["codebase_version"] == "v3.0":
        files = sorted((path / "data").glob("*/*.parquet"))
        meta = pyarrow.parquet.ParquetDataset(path / "meta/episodes").read(["episode_index", "length"])
        order = np.argsort(meta["episode_index"].to_numpy())
        lengths = meta["length"].to_numpy()[order].tolist()
    else:
        lines = [json.loads(line) for line in (path / "meta/episodes.jsonl").read_text().splitlines() if line.strip()]
        lines.sort(key=lambda line: line["episode_index"])
        lengths = [line["length"] for line in lines]
        files = sorted((path / "data").glob("*/*.parquet"))
    tables = [pyarrow.parquet.ParquetFile(file).read() for file in files]
    return lengths, {name: np.concatenate([flat(table[name]) for table in tables]) for name in names}


def read_zarr(path):
    root = zarr.open(str(path), mode="r")
    lengths = np.diff(root["meta/episode_ends"][:], prepend=0).tolist()
    arrays = {name: array[:] for name, array in root["data"].arrays() if array.ndim < 4}
    numeric = {name: array for name, array in arrays.items() if array.dtype.kind in "fiub" and array[0].size}
    return lengths, {name: array.reshape(len(array), -1) for name, array in numeric.items()}


def read_hdf5(path):
    with h5py.File(path, "r") as file:
        demos = sorted(file["data"], key=lambda name: int(name.split("_")[-1]))
        lengths = [len(file["data"][demo]["actions"]) for demo in demos]
        names = []

        def visit(name, item):
            per_frame = isinstance(item, h5py.Dataset) and item.shape[:1] == (lengths[0],)
            if per_frame and not name.startswith("next_obs/") and item.ndim < 4 and item[0].size:
                names.append(name)

        file["data"][demos[0]].visititems(visit)
        rows = {name: [file["data"][demo][name][()] for demo in demos] for name in names}
        return lengths, {name: np.concatenate([r.reshape(len(r), -1) for r in rows[name]]) for name in names}


def fnv1a(data):
    """64 bits, as the example `dump` computes it."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def compare(dump, path):
    """Whether all numbers that Nudge reads are equal; prints how many, what differs, and what Nudge refuses to read."""
    ours = json.loads(subprocess.run([dump, path], check=True, capture_output=True, text=True).stdout)
    reader = read_hdf5 if path.is_file() else read_lerobot if (path / "meta/info.json").is_file() else read_zarr
    lengths, theirs = reader(path)
    problems = []
    if ours["lengths"] != lengths:
        problems.append(f"lengths {ours['lengths']} and {lengths}")
    if set(ours["features"]) != set(theirs):
        problems.append(f"features {sorted(ours['features'])} and {sorted(theirs)}")
    equal = 0
    refused = {name: feature["refused"] for name, feature in ours["features"].items() if "refused" in feature}
    for name in sorted(set(ours["features"]) & set(theirs) - set(refused)):
        values = np.ascontiguousarray(theirs[name].astype("<f4"))
        if ours["features"][name]["count"] != values.size:
            problems.append(f"{name}: {ours['features'][name]['count']} numbers and {values.size}")
        elif ours["features"][name]["fnv1a"] != fnv1a(values.tobytes()):
            problems.append(f"{name}: other numbers, sums {ours['features'][name]['sum']} and {values.sum(dtype='f8')}")
        else:
            equal += values.size
    verdict = "DIFFERENT" if problems else "equal"
    print(f"{verdict:9} {ours['format']:18} {len(lengths):4} episodes {sum(lengths):6} frames "
          f"{len(theirs):2} features {equal:8} numbers  {path}")
    for problem in problems + [f"refused: {problem}" for problem in refused.values()]:
        print("   ", problem)
    return not problems


if __name__ == "__main__":
    dump, *paths = sys.argv[1:]
    found = [found for path in paths for found in sets_in(Path(path))]
    results = [compare(dump, path) for path in found]
    print(f"{sum(results)} of {len(results)} sets are equal")
    sys.exit(not results or not all(results))
