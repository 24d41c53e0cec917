"""The training step of tests/bench/bench_model.c in PyTorch, one thread, denormals flushed: the same network, views,
objective and sizes, without the optimiser, by the thread's CPU clock. Prints the same lines. Usage: bench_torch.py
[conv|vit|resnet|resnet-batch, -w32 after these: so wide] [slot sizes]; bench_torch.py sgemm: how fast it multiplies matrices."""
import math
import os
import sys
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before torch is loaded; torch.set_num_threads does not reach OpenBLAS
    os.environ[name] = "1"
import torch  # noqa: E402
import torch.nn as nn  # noqa: E402
import torch.nn.functional as F  # noqa: E402

K, BLOCK, PROJECTION, HIDDEN = 1024, 256, 128, 256
SECONDS = 2.5
EPS = 2.0 ** -23


class Conv(nn.Sequential):
    def __init__(self, widths=(24, 48, 96, 192)):
        layers, channels = [], 1
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, 2, 1, bias=False), nn.GroupNorm(8, width), nn.ReLU()]
            channels = width
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.width = channels


class Block(nn.Module):
    def __init__(self, dim, heads, mlp):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp * dim), nn.GELU(), nn.Linear(mlp * dim, dim))

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        a = F.softmax(q @ k.transpose(-1, -2) / math.sqrt(d // self.heads), -1) @ v
        x = x + self.out(a.transpose(1, 2).reshape(n, t, d))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, patch=4, side=28, dim=128, depth=4, heads=4, mlp=2):
        super().__init__()
        self.embed = nn.Conv2d(1, dim, patch, patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(0.02 * torch.randn(1, (side // patch) ** 2 + 1, dim))
        self.blocks = nn.Sequential(*[Block(dim, heads, mlp) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.width = dim

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.positions
        return self.norm(self.blocks(x))[:, 0]


class Basic(nn.Module):
    """A basic block of a residual network."""

    def __init__(self, before, width, stride, norm):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(before, width, 3, stride, 1, bias=False), norm(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), norm(width)
        self.shortcut = nn.Identity()
        if stride != 1 or before != width:
            self.shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), norm(width))

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x), inplace=True)


class ResNet(nn.Sequential):
    """With the stem of its CIFAR networks; layers: blocks of each stage."""

    def __init__(self, batch, base=16, layers=(2, 2, 2, 2), channels=1):
        norm = nn.BatchNorm2d if batch else lambda width: nn.GroupNorm(8, width)
        blocks, width = [nn.Conv2d(channels, base, 3, 1, 1, bias=False), norm(base), nn.ReLU(inplace=True)], base
        for stage, depth in enumerate(layers):
            for i in range(depth):
                blocks.append(Basic(width, base << stage, 2 if stage > 0 and i == 0 else 1, norm))
                width = base << stage
        super().__init__(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.width = width


ENCODERS = {"conv": Conv, "vit": ViT, "resnet": lambda: ResNet(False), "resnet-batch": lambda: ResNet(True)}


def network(name):
    kind, _, width = name.partition("-w")
    encoder = ResNet(kind == "resnet-batch", int(width)) if width else ENCODERS[kind]()
    head = nn.Sequential(
        nn.Linear(encoder.width, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.GELU(),
        nn.Linear(HIDDEN, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.GELU(), nn.Linear(HIDDEN, PROJECTION))
    return nn.Sequential(encoder, head)


def carp(zs, zt, prototypes, order, b):
    ls = F.normalize(zs, dim=1) @ prototypes.t() / 0.1
    lt = F.normalize(zt, dim=1) @ prototypes.t() / 0.1
    p = F.softmax(ls[:, order].view(2 * b, K // BLOCK, BLOCK), -1)
    q = F.softmax(lt[:, order].view(2 * b, K // BLOCK, BLOCK), -1)
    (p1, p2), (q1, q2) = p.chunk(2), q.chunk(2)
    consistency = sum(-((s * t).sum(-1).clamp(EPS, 1 - EPS)).log().mean() for s, t in ((p1, q2), (p2, q1))) / 2
    mean = torch.cat([p, q]).mean(0)
    entropy = (math.log(BLOCK) + (mean * mean.clamp(EPS, 1 - EPS).log()).sum(-1)).mean()
    return consistency + 3 * entropy


def measure(name, b):
    student, teacher = network(name), network(name)
    images = torch.randn(2 * b, 1, 28, 28)
    prototypes = F.normalize(torch.randn(K, PROJECTION), dim=1)
    order = torch.randperm(K)

    def step():
        with torch.no_grad():
            zt = teacher(images)
        loss = carp(student(images), zt, prototypes, order, b)
        for parameter in student.parameters():
            parameter.grad = None
        loss.backward()

    for _ in range(2):
        step()
    begin = end = time.thread_time()
    steps, best = 0, 1e9
    while end - begin < SECONDS:
        start = end
        step()
        end = time.thread_time()
        steps, best = steps + 1, min(best, end - start)
    print(f"bench=step_torch model={name} b={b} images_per_s={b * steps / (end - begin):.0f} "
          f"best_images_per_s={b / best:.0f}", flush=True)


def sgemm(rows=196, depth=128, columns=384, runs=300):
    """A linear layer of the vision transformer, the best of many."""
    x, weight, best = torch.randn(rows, depth), torch.randn(columns, depth), 1e9
    for _ in range(runs):
        start = time.thread_time()
        F.linear(x, weight)
        best = min(best, time.thread_time() - start)
    print(f"bench=peer_sgemm gflops={2e-9 * rows * depth * columns / best:.1f}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    which = sys.argv[1] if len(sys.argv) > 1 else "conv"
    if which == "sgemm":
        sgemm()
        sys.exit()
    for size in [int(x) for x in sys.argv[2:]] or [64, 128, 256]:
        measure(which, size)
