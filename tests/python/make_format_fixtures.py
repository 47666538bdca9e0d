"""Makes the small data sets in crates/dataset/tests/fixtures with the tools that people make theirs with.

    pip install "zarr==2.18.3" "numcodecs<0.14" h5py numpy
    python tests/python/make_format_fixtures.py

Three episodes of 7, 4 and 9 frames. Every number has a closed form, so that the tests need no Python:

    value(episode, frame, number) = episode * 1000 + frame * 10 + number

`state` has 5 numbers, `keypoint` 9 x 2 (number = row * 2 + column), `action` 2, and `n_contacts` one, which is `frame`.
Half precision cannot hold all of these values: there, and in one byte, the value is `frame * 10 + number`.
"""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import zarr
from numcodecs import Blosc, GZip, Zlib, Zstd

LENGTHS = [7, 4, 9]
OUT = Path(__file__).resolve().parents[2] / "crates/dataset/tests/fixtures"


def values(dim, small=False):
    """`[frames, dim]` of the whole set."""
    rows = []
    for episode, length in enumerate(LENGTHS):
        for frame in range(length):
            rows.append([(0 if small else episode * 1000) + frame * 10 + number for number in range(dim)])
    return np.array(rows, dtype=np.float64)


def frames():
    return np.concatenate([np.arange(length) for length in LENGTHS])


def put(group, name, data, chunks, compressor, **more):
    group.array(name, data, chunks=chunks, compressor=compressor, **more)


def zarr_store(name, compressor, separator="."):
    path = OUT / name
    store = zarr.DirectoryStore(str(path), dimension_separator=separator)
    root = zarr.group(store, overwrite=True)
    data, meta = root.create_group("data"), root.create_group("meta")
    put(meta, "episode_ends", np.cumsum(LENGTHS).astype("<i8"), (3,), compressor)
    # The last chunk of 20 frames is padded.
    put(data, "state", values(5).astype("<f4"), (8, 5), compressor)
    put(data, "keypoint", values(18).reshape(-1, 9, 2).astype("<f4"), (8, 9, 2), compressor)
    put(data, "action", values(2).astype("<f4"), (8, 2), compressor)
    put(data, "n_contacts", frames().astype("<f4"), (8,), compressor)
    return data


def zarr_stores():
    zarr_store("blosc_zstd_bitshuffle.zarr", Blosc("zstd", 5, Blosc.BITSHUFFLE))
    zarr_store("blosc_lz4_noshuffle.zarr", Blosc("lz4", 5, Blosc.NOSHUFFLE))
    zarr_store("gzip.zarr", GZip(5))
    zarr_store("zlib.zarr", Zlib(5))
    zarr_store("zstd.zarr", Zstd(5))
    zarr_store("none.zarr", None, separator="/")

    # What else people store: other types and byte orders, other chunks, pictures, text.
    data = zarr_store("odd.zarr", None)
    for kind in ["<f2", ">f2", "|i1", "|u1", "|b1"]:
        small = values(3, small=True)
        put(data, "small_" + np.dtype(kind).name + ("_big" if kind[0] == ">" else ""), small.astype(kind), (20, 3), None)
    for kind in ["<f8", ">f8", ">f4", "<i2", ">i2", "<i4", "<i8", ">i8", "<u2", "<u4", "<u8"]:
        name = np.dtype(kind).name + ("_big" if kind[0] == ">" else "")
        put(data, "wide_" + name, values(3).astype(kind), (20, 3), None)
    put(data, "long_chunk", values(3).astype("<f4"), (100, 3), Blosc("zstd", 5, Blosc.SHUFFLE))
    put(data, "cut_across", values(18).reshape(-1, 9, 2).astype("<f4"), (12, 5, 1), Zlib(1))
    put(data, "column_major", values(3).astype("<f4"), (12, 3), None, order="F")
    put(data, "img", np.zeros((20, 4, 4, 3), "<f4"), (20, 4, 4, 3), Blosc("zstd"))
    put(data, "label", np.array(["grasp"] * 20, dtype="<U5"), (20,), None)
    put(data, "nothing", np.zeros((20, 0), "<f4"), (20, 1), None)


def demo(group, episode, length, whole, **how):
    """One demonstration, `whole` or only a few of its arrays. `how` says how the numbers are packed."""
    rows = slice(sum(LENGTHS[:episode]), sum(LENGTHS[:episode]) + length)

    def put_array(group, name, data):
        # The last chunk of 4 frames is padded.
        chunks = (4, *data.shape[1:]) if how else None
        group.create_dataset(name, data=data, chunks=chunks, **how)

    group.attrs["num_samples"] = length
    put_array(group, "actions", values(2)[rows])
    put_array(group, "rewards", frames()[rows].astype("<f8"))
    put_array(group.create_group("obs"), "eef_pos", values(3)[rows].astype("<f4"))
    if not whole:
        return
    group.attrs["model_file"] = "<mujoco/>"
    put_array(group, "states", values(5)[rows])
    put_array(group, "dones", (frames()[rows] == length - 1).astype("<i8"))
    put_array(group["obs"], "object", values(18)[rows].reshape(-1, 9, 2).astype(">f8"))
    put_array(group["obs"], "gripper", (frames()[rows] % 2).astype(bool))
    put_array(group["obs"], "image", np.zeros((length, 4, 4, 3), "u1"))
    put_array(group["obs"], "small", values(2, small=True)[rows].astype("<f2"))
    group.create_group("next_obs")
    put_array(group["next_obs"], "eef_pos", values(3)[rows].astype("<f4"))
    # Not an array of frames.
    group.create_dataset("seed", data=7)


def hdf5_file(name, whole, libver=None, numbers=(0, 1, 2), **how):
    with h5py.File(OUT / name, "w", libver=libver) as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(LENGTHS)
        kwargs = {"control_freq": 20, "robots": ["Panda"]}
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "env_type": 1, "env_kwargs": kwargs})
        # Not in the order of their numbers.
        for episode in [2, 0, 1]:
            demo(data.create_group(f"demo_{numbers[episode]}"), episode, LENGTHS[episode], whole, **how)
        mask = file.create_group("mask")
        mask.create_dataset("train", data=np.array([f"demo_{numbers[e]}".encode() for e in [0, 2]]))
        mask.create_dataset("valid", data=np.array([f"demo_{numbers[1]}".encode()]))


def hdf5_files():
    # demo_10 comes after demo_9, not after demo_1.
    hdf5_file("contiguous.hdf5", True, numbers=(1, 9, 10))
    hdf5_file("gzip.hdf5", False, compression="gzip")
    hdf5_file("lzf.hdf5", False, compression="lzf", shuffle=True, fletcher32=True)
    hdf5_file("latest.hdf5", True, libver="latest", compression="gzip", shuffle=True)


if __name__ == "__main__":
    if OUT.exists():
        shutil.rmtree(OUT)
    OUT.mkdir(parents=True)
    zarr_stores()
    hdf5_files()
