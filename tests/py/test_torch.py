#!/usr/bin/env python3
"""decant.torch and examples/pytorch, where there is a torch (Debian's python3-torch); without one nearly everything is skipped.

Losses against float64 references by their formulas; the module against a running server; the example in miniature, alone, with two
processes and joint. Ends with "N passed, M failed, K skipped"."""
import os
import re
import subprocess
import sys
import time
import traceback

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import test_client as rig

try:
    import torch
    from decant.torch import CARP, DINO, DecoupledPrototypes, SwAV
except ImportError:
    torch = None
from decant.diagnostics import ActivePercent, unique_percent

K, D, B, ROOT, PATIENCE_S = rig.K, rig.D, 5, rig.ROOT, rig.PATIENCE_S
STEPS = 3


# ---- losses ----

def logits(seed):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (2 * B, K)), rng.uniform(-1, 1, (2 * B, K))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def cross_entropy(student, targets, temperature):
    log_p = np.log(softmax(student / temperature))
    return np.mean([-(targets[(i + B) % (2 * B)] * log_p[i]).sum() for i in range(2 * B)])


def check_loss(loss, student, teacher, wanted, *arguments):
    s, t = torch.tensor(student, dtype=torch.float32, requires_grad=True), torch.tensor(teacher, dtype=torch.float32, requires_grad=True)
    value = loss(s, t, *arguments)
    np.testing.assert_allclose(value.item(), wanted, rtol=1e-4)
    value.backward()
    assert s.grad.abs().max() > 0 and t.grad is None  # the teacher is a target


def test_dino():
    student, teacher = logits(1)
    loss = DINO(K, 0.1, 0.05, 0.9)
    check_loss(loss, student, teacher, cross_entropy(student, softmax(teacher / 0.05), 0.1))
    center = 0.1 * teacher.mean(axis=0)
    np.testing.assert_allclose(loss.center.numpy(), center, atol=1e-6)
    loss.eval()
    check_loss(loss, student, teacher, cross_entropy(student, softmax((teacher - center) / 0.05), 0.1))
    np.testing.assert_allclose(loss.center.numpy(), center, atol=1e-6)


def test_swav():
    student, teacher = logits(2)
    targets = []
    for v in (teacher[:B], teacher[B:]):
        q = np.exp((v - v.max()) / 0.05)
        for _ in range(3):
            q /= K * q.sum(axis=0, keepdims=True)
            q /= B * q.sum(axis=1, keepdims=True)
        targets.append(B * q)
    check_loss(SwAV(0.1, 0.05, 3), student, teacher, cross_entropy(student, np.concatenate(targets), 0.1))


def test_carp():
    student, teacher = logits(3)
    P, order = 8, np.random.default_rng(4).permutation(K)
    consistency, entropy = [], []
    for block in order.reshape(-1, P):
        p, q = softmax(student[:, block] / 0.1), softmax(teacher[:, block] / 0.2)
        consistency += [-np.log(p[i] @ q[(i + B) % (2 * B)]) for i in range(2 * B)]
        mean = np.concatenate([p, q]).mean(axis=0)
        entropy.append(np.log(P) + (mean * np.log(mean)).sum())
    check_loss(CARP(K, P, 0.1, 0.2, 3.0), student, teacher, np.mean(consistency) + 3 * np.mean(entropy), torch.from_numpy(order))
    torch.manual_seed(1)
    loss = CARP(K, P)
    s, t = (torch.tensor(x, dtype=torch.float32) for x in (student, teacher))
    assert loss(s, t) != loss(s, t)  # another partition


def test_what_does_not_fit_is_refused():
    for call in (lambda: CARP(10, 3), lambda: SwAV()(torch.zeros(3, K), torch.zeros(3, K)), lambda: SwAV()(torch.zeros(4, K), torch.zeros(2, K))):
        try:
            call()
        except ValueError:
            continue
        raise AssertionError("taken")


# ---- the E-step ----

def test_expectation_in_torch_is_the_reference():
    rig.check_expectation(torch.from_numpy)


# ---- the module ----

def test_the_buffer_follows_the_server_between_steps():
    with rig.server(stream__contributions=1) as s:
        module = DecoupledPrototypes(K, D, s.address, publish=s.publish)
        before = module.prototypes.clone()
        assert not list(module.parameters()) and "prototypes" in module.state_dict()
        z = torch.randn(16, D, requires_grad=True)
        cosines = module(z)
        np.testing.assert_allclose(cosines.detach().numpy(), (z / z.norm(dim=1, keepdim=True)).detach().numpy() @ before.numpy().T, atol=1e-5)
        module.submit(z)
        module.client.wait_version(1, PATIENCE_S)
        assert torch.equal(module.prototypes, before) or module.version == 1
        s_deadline = time.monotonic() + PATIENCE_S
        while module.refresh() < 1:
            assert time.monotonic() < s_deadline
            time.sleep(0.005)
        assert not torch.equal(module.prototypes, before)
        np.testing.assert_allclose(module.prototypes.numpy(), module.client.prototypes(), atol=1e-6)
        cosines.sum().backward()  # of the prototypes that the forward pass saw
        fresh = z.detach().clone().requires_grad_()
        (torch.nn.functional.normalize(fresh, dim=1) @ before.t()).sum().backward()
        np.testing.assert_allclose(z.grad.numpy(), fresh.grad.numpy(), atol=1e-5)
        module.close()


def test_another_shape_is_refused():
    with rig.server() as s:
        try:
            DecoupledPrototypes(K + 1, D, s.address, publish=s.publish)
            raise AssertionError("taken")
        except ValueError as error:
            assert f"({K}, {D})" in str(error)


# ---- the examples ----

def test_the_example_of_its_page_runs():
    page = (ROOT / "client/python/README.md").read_text()
    code = page.split("```python\n")[2].split("```")[0]
    with rig.server() as s:
        code = code.replace("1024, 128,", f"{K}, {D},").replace('"tcp://127.0.0.1:5711"', repr(s.address)).replace("1024, block=256", f"{K}, block=8")
        student, teacher = torch.nn.Linear(20, D), torch.nn.Linear(20, D)
        scope = {"student": student, "teacher": teacher, "views": torch.randn(2 * B, 20)}
        exec(code, scope)
        scope["loss"].backward()
        assert student.weight.grad.abs().max() > 0 and teacher.weight.grad is None
        scope["prototypes"].close()


def example(*arguments):
    """Its last line, as (loss, unique at 0.025, active)."""
    done = subprocess.run([sys.executable, str(ROOT / "examples/pytorch/train.py"), "--steps", str(STEPS), "--log-every", "1", "--batch", "16",
                           "--limit", "200", "--components", str(K), "--dimensions", str(D), *arguments],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(r"^step +(\d+)  loss +([\d.]+)  unique 0.025: *([\d.]+)% .*  active +([\d.]+)%", done.stdout, re.M)
    assert [int(f[0]) for f in found] == list(range(1, STEPS + 1)), done.stdout
    figures = [float(x) for x in found[-1][1:]]
    assert figures[0] > 0 and all(0 < f <= 100 for f in figures[1:]), done.stdout
    return figures


def test_the_example_trains():
    with rig.server() as s:
        served = ("--address", s.address, "--publish", s.publish)
        example(*served)
        example("--processes", "2", "--objective", "dino", *served)
        s.stop()
        ledger = s.checkpoint()["ledger"]
        assert ledger[1:, 2].tolist() == [STEPS] * 3, ledger  # one client, then two
        assert abs(s.applied() - 2 * STEPS * 2 * 16) < 0.01
    assert example("--objective", "swav")[1] == 100


def test_figures():
    near = np.array([[1, 0, 0], [1, 0.01, 0], [0, 1, 0], [-1, 0, 0]])
    assert unique_percent(near, 0.025) == 75 and unique_percent(near, 1.5) == 50 and unique_percent(np.ones((4, 2)), 0.025) == 25
    active = ActivePercent(10, embeddings=4)
    for batch in ([1, 2], [3, 3], [3, 4]):
        active.add(batch)
    assert active() == 20


def main():
    passed = failed = skipped = 0
    for name, test in [item for item in globals().items() if item[0].startswith("test_")]:
        if torch is None and test is not test_figures:
            skipped += 1
            print("skip ", name, "no torch (deploy/install-deps --bench has it)")
            continue
        try:
            began = time.monotonic()
            test()
            passed += 1
            print("ok   ", name, f"({time.monotonic() - began:.1f} s)", flush=True)
        except Exception:
            failed += 1
            print("FAIL ", name, flush=True)
            traceback.print_exc(file=sys.stdout)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
