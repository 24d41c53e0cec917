#!/usr/bin/env python3
"""Event files of `decant export --format tensorboard`, parsed back from nothing but their description: TFRecords with their
checksums, protobuf messages in them. Ends with "N passed, M failed"."""
import json
import os
import struct
import subprocess
import sys
import tempfile

from live_run import BUILD, run_tests

TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    TABLE.append(byte)


def masked_crc(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(data):
    while data:
        length, crc = struct.unpack_from("<QI", data)
        body = data[12:12 + length]
        assert crc == masked_crc(data[:8]) and len(body) == length
        assert struct.unpack_from("<I", data, 12 + length)[0] == masked_crc(body)
        yield body
        data = data[16 + length:]


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def message(data):
    """{field: value}, of the wire types 0, 1, 2 and 5."""
    fields, at = {}, 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            fields[key >> 3], at = varint(data, at)
            continue
        size, at = varint(data, at) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], at)
        assert key >> 3 not in fields and at + size <= len(data)
        fields[key >> 3], at = data[at:at + size], at + size
    return fields


def scalars(path):
    """[(wall_time, step, tag, value)]."""
    with open(path, "rb") as f:
        first, *rest = map(message, records(f.read()))
    assert first[3] == b"brain.Event:2" and set(first) == {1, 3}
    out = []
    for event in rest:
        assert set(event) == {1, 2, 5}
        value = message(message(event[5])[1])
        out.append((struct.unpack("<d", event[1])[0], event[2], value[1].decode(), struct.unpack("<f", value[2])[0]))
    return out


class Case:
    def __init__(self, directory):
        self.run, self.out = os.path.join(directory, "run"), os.path.join(directory, "events")
        os.makedirs(self.run)

    def write(self, server, *lines):
        with open(os.path.join(self.run, f"metrics-{server}.jsonl"), "w", encoding="utf-8") as f:
            f.writelines(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)

    def export(self):
        return subprocess.run([f"{BUILD}/bin/decant", "export", "--format", "tensorboard", "--checkpoint", self.run, "--out", self.out],
                              capture_output=True, text=True, timeout=60, check=False)

    def read(self, server):
        names = os.listdir(os.path.join(self.out, server))
        assert len(names) == 1 and "tfevents" in names[0], names
        return scalars(os.path.join(self.out, server, names[0]))

    def test_checksum(self):
        assert masked_crc(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF

    def test_no_run(self):
        done = self.export()
        assert done.returncode == 1 and "no metrics-*.jsonl here" in done.stderr and not os.path.exists(self.out)

    def test_every_number_comes_back(self):
        self.write("parameter", {"step": 5, "loss": 1.5, "workers": 2}, {"step": 100000, "loss": -0.25})
        self.write("prototype", {"time": 1795707134.5, "step": 5, "unique_01": 99.5})
        done = self.export()
        assert done.returncode == 0 and done.stdout == f"{self.out}: 4 scalars\n", done
        assert self.read("prototype") == [(1795707134.5, 5, "unique_01", 99.5)]
        written = self.read("parameter")
        assert [w[1:] for w in written] == [(5, "loss", 1.5), (5, "workers", 2.0), (100000, "loss", -0.25)]
        assert all(w[0] == int(os.stat(os.path.join(self.run, "metrics-parameter.jsonl")).st_mtime) for w in written)

    def test_again_and_with_damaged_lines(self):
        self.write("parameter", {"step": 7, "x" * 300: 1.0}, "no JSON\n", {"loss": 3}, {"step": "8", "loss": 3}, {"step": 9, "loss": "x"},
                   {"step": 10, "loss": 2}, '{"step": 11, "loss"')
        assert self.export().returncode == 0
        assert [w[1:] for w in self.read("parameter")] == [(7, "x" * 96, 1.0), (10, "loss", 2.0)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        code = run_tests(Case(scratch))
    sys.exit(code)
