#!/usr/bin/env python3
"""A small network on Fashion-MNIST in a PyTorch loop, with prototypes of a Decant server, or with its own (the joint baseline).

    decant serve-mixture --components 256 --dimensions 64 --run pytorch &
    python3 examples/pytorch/train.py --address tcp://127.0.0.1:5711
    python3 examples/pytorch/train.py --address tcp://127.0.0.1:5711 --processes 2     # DistributedDataParallel over gloo
    python3 examples/pytorch/train.py                                                  # joint

Student and teacher (its moving average) see two views of each image. What differs between the two is marked with (*).
"""
import argparse
import copy
import gzip
import os
import pathlib
import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "client" / "python"))  # not needed once it is installed
from decant.diagnostics import ActivePercent, unique_percent
from decant.torch import CARP, DINO, DecoupledPrototypes, SwAV


def images(path, limit):
    """(N, 1, 28, 28), standardised."""
    with gzip.open(pathlib.Path(path) / "train-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(16 + limit * 784), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    return (torch.from_numpy(pixels.astype(np.float32) / 255) - 0.2860) / 0.3530


def view(batch):
    """Shifted by up to three pixels, mirrored, brighter or darker: for each image on its own."""
    n = len(batch)
    move = torch.zeros(n, 2, 3)
    move[:, 0, 0] = torch.where(torch.rand(n) < 0.5, 1.0, -1.0)
    move[:, 1, 1] = 1
    move[:, :, 2] = (torch.rand(n, 2) - 0.5) * 12 / 28
    moved = F.grid_sample(batch, F.affine_grid(move, list(batch.shape), align_corners=False), padding_mode="border", align_corners=False)
    return moved * (0.6 + 0.8 * torch.rand(n, 1, 1, 1))


class Encoder(nn.Module):
    def __init__(self, dimensions):
        super().__init__()
        layers = []
        for wide, wider in ((1, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(wide, wider, 3, stride=2, padding=1), nn.GroupNorm(8, wider), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 128), nn.BatchNorm1d(128), nn.ReLU(),
                                  nn.Linear(128, dimensions))

    def forward(self, x):
        return self.head(self.body(x))


class JointPrototypes(nn.Module):
    """(*) The baseline: prototypes that are parameters, and get gradients."""

    def __init__(self, components, dimensions):
        super().__init__()
        self.prototypes = nn.Parameter(F.normalize(torch.randn(components, dimensions), dim=1))

    def forward(self, embeddings):
        return F.normalize(embeddings, dim=1) @ F.normalize(self.prototypes, dim=1).t()


def loss_named(name, components):
    if name == "carp":
        return CARP(components, block=min(components, 64))
    return DINO(components) if name == "dino" else SwAV()


class JointStudent(nn.Module):
    """Encoder and prototypes in one module, because DistributedDataParallel averages the gradients of what it wraps."""

    def __init__(self, options):
        super().__init__()
        self.encoder = Encoder(options.dimensions)
        self.prototypes = JointPrototypes(options.components, options.dimensions)

    def forward(self, x):
        return self.prototypes(self.encoder(x))


def train(rank, options):
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)  # the same weights everywhere
    decoupled = options.address is not None
    student = Encoder(options.dimensions) if decoupled else JointStudent(options)
    teacher = copy.deepcopy(student).requires_grad_(False)
    if options.processes > 1:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        torch.distributed.init_process_group("gloo", init_method=f"file://{options.meeting}", rank=rank, world_size=options.processes)
        student = nn.parallel.DistributedDataParallel(student)
    torch.manual_seed(options.seed + 1 + rank)  # other images and views
    prototypes = DecoupledPrototypes(options.components, options.dimensions, options.address, publish=options.publish) if decoupled else None
    loss_of = loss_named(options.objective, options.components)
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-3)
    data = images(options.data, options.limit)
    active = ActivePercent(options.components)
    for step in range(1, options.steps + 1):
        batch = data[torch.randint(len(data), (options.batch // options.processes,))]
        views = torch.cat([view(batch), view(batch)])
        with torch.no_grad():
            z_teacher = teacher(views)
        if decoupled:
            prototypes.submit(z_teacher)  # (*) statistics out, the newest prototypes in
            logits_student, logits_teacher = prototypes(student(views)), prototypes(z_teacher)
        else:
            logits_student, logits_teacher = student(views), z_teacher
        loss = loss_of(logits_student, logits_teacher)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            for slow, fast in zip(teacher.parameters(), student.parameters()):
                slow.lerp_(fast, 0.01)
        active.add(logits_teacher.argmax(dim=1))
        if rank == 0 and (step % options.log_every == 0 or step == options.steps):
            now = prototypes.prototypes if decoupled else teacher.prototypes.prototypes
            print(f"step {step:5d}  loss {loss.item():7.4f}  unique " +
                  " ".join(f"{eps:g}:{unique_percent(now.numpy(), eps):5.1f}%" for eps in (0.025, 0.1, 0.25, 0.5)) +
                  f"  active {active():5.1f}%" + (f"  version {prototypes.version}" if decoupled else ""), flush=True)
    if decoupled:
        prototypes.close()
    if options.processes > 1:
        torch.distributed.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog="Without --address: the joint baseline.")
    parser.add_argument("--address", help="of the prototype server, tcp://HOST:PORT or ipc://PATH")
    parser.add_argument("--publish", help="its publications; by default the next port")
    parser.add_argument("--objective", choices=("carp", "dino", "swav"), default="carp")
    parser.add_argument("--components", type=int, default=256)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=256, help="images in a step, of all processes")
    parser.add_argument("--log-every", type=int, default=100)
    parser.add_argument("--limit", type=int, default=60000, help="training images")
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--meeting", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.processes == 1:
        train(0, options)
        return
    import tempfile
    with tempfile.TemporaryDirectory() as directory:
        options.meeting = f"{directory}/meeting"
        torch.multiprocessing.start_processes(train, (options,), options.processes, start_method="fork")  # on CPUs; quicker than spawn


if __name__ == "__main__":
    main()
