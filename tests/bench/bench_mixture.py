#!/usr/bin/env python3
"""One EM iteration of a diagonal mixture, E and M, float32, one core: ours against scikit-learn, Armadillo's gmm_diag and PyTorch in blocks of
rows with denormals flushed, alternately in one sitting. Every round starts from the same parameters, and what comes out (means,
variances, log-likelihood) is compared before a time counts. Times are CPU seconds of the process, which has one thread, so that other
programs on the machine count for less. A peer whose first round took more than 4 s is not run again, and Armadillo, whose EM would take
minutes, gets a part of the rows where there are many products: its time is that of the part times N / rows, and only the log-likelihood
is compared, with ours of the same rows. Says on stderr where it is; prints a table, writes JSON.

A second table has what each shortcut of ours brings: the time of a piece of work with it and by what it replaces, in turns in one process
(bench_shortcuts.c says what they are), and the whole iteration with narrower kernels (DECANT_KERNELS). The results of both must agree within
the bound that is stated. "Iteration" is what an iteration would take without the shortcut, over what it takes.

OpenBLAS, on which all peers stand, takes processors newer than itself for the oldest of its family. So that they get what the processor
can do, it is told to use its kernels for AVX-512, or AVX2, unless OPENBLAS_CORETYPE says otherwise; the sgemm rate is theirs too.

Usage: bench_mixture.py [--rounds 3] [--out build/bench/mixture.json] [NxDxK ...]"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time



def blas_kernels_for_this_processor():
    with open("/proc/cpuinfo") as f:
        flags = next((line for line in f if line.startswith("flags")), "").split()
    return "SkylakeX" if "avx512vl" in flags else "Haswell" if "avx2" in flags else None


TOLD = "OPENBLAS_CORETYPE" not in os.environ and blas_kernels_for_this_processor() is not None  # by us, not by whoever calls
if TOLD:
    os.environ["OPENBLAS_CORETYPE"] = blas_kernels_for_this_processor()
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # before numpy is loaded
    os.environ[name] = "1"
import numpy as np

BUILD = pathlib.Path(os.environ.get("BUILD", "build"))
HERE = pathlib.Path(__file__).resolve().parent
SIZES = ["60000x64x256", "60000x64x1024", "20000x128x4096"]
PEERS = ("ours", "torch", "armadillo", "sklearn")
FLOOR = 1e-3
SLOW = 4  # s
ARMADILLO_PRODUCTS = 1e9  # N K D that it is given at most
EPS = 2.0 ** -23
# Name in bench_shortcuts.c: what it is, what it replaces, what it is exact to, how far results may differ, whether an iteration has it.
SHORTCUTS = {
    "products": ("our tiles for logits", "sgemm, its kernels told", "rounding", lambda N, D, K: 3 * D * D * EPS, True),
    "untold": ("the same", "sgemm as Debian's OpenBLAS chooses", "rounding", lambda N, D, K: 3 * D * D * EPS, True),
    "exponentials": ("logits near the largest alone", "all K exponentials", "e^-10 of the sum", lambda N, D, K: 5e-5, True),
    "fitted": ("the same, second iteration", "all K exponentials", "e^-10 of the sum", lambda N, D, K: 5e-5, True),
    "dropping": ("responsibilities under 1e-6 dropped", "all that are not 0 kept", "K 1e-6 of an embedding's mass", lambda N, D, K: K * 1e-6, False),
    "sums": ("sums of the kept", "sgemm of all", "rounding", lambda N, D, K: 1e-6, True),
    "novelty": ("search bounded by the assigned prototype", "all prototypes", "exact", lambda N, D, K: 0, False),
    "operand": ("1/64 of the operand packed anew", "all of it", "exact", lambda N, D, K: 0, False),
}


# ---- the peers, each in a process of its own ----

def by_sklearn(h, means):
    from sklearn.mixture import GaussianMixture
    K, D = means.shape

    def start():
        g = GaussianMixture(K, covariance_type="diag", reg_covar=0)
        g.weights_ = np.full(K, 1 / K, np.float32)
        g.means_, g.covariances_ = means.copy(), np.full((K, D), 1 / D, np.float32)
        g.precisions_cholesky_ = 1 / np.sqrt(g.covariances_)
        return g

    start()._e_step(h[:512])
    g = start()
    began = time.process_time()
    loglik, log_resp = g._e_step(h)
    g._m_step(h, log_resp)
    return time.process_time() - began, loglik, g.means_, g.covariances_


def by_torch(h, means):
    import torch
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    x, mu = torch.from_numpy(h), torch.from_numpy(means)
    K, D = means.shape

    def iteration(x):
        v = torch.full((K, D), 1 / D)
        operand = torch.cat([-0.5 / v, mu / v], 1).T.contiguous()
        constant = -np.log(K) - 0.5 * (torch.log(v) + mu * mu / v).sum(1) - 0.5 * D * np.log(2 * np.pi)
        n, sums, loglik = torch.zeros(K), torch.zeros(K, 2 * D), 0.0
        for block in x.split(1024):
            both = torch.cat([block * block, block], 1)
            logits = torch.addmm(constant, both, operand)
            norm = torch.logsumexp(logits, 1, keepdim=True)
            gamma = (logits - norm).exp_()
            loglik += float(norm.sum())
            n += gamma.sum(0)
            sums += gamma.T @ both
        mean = sums[:, D:] / n[:, None]
        return loglik / len(x), mean, torch.clamp(sums[:, :D] / n[:, None] - mean * mean, min=FLOOR)

    iteration(x[:2048])
    began = time.process_time()
    loglik, mean, variance = iteration(x)
    return time.process_time() - began, loglik, mean.numpy(), variance.numpy()


def run_here(peer, rows, means, N, K, D, out):
    """In a process of its own: the same answer as the two programs give."""
    h, mu = np.fromfile(rows, "<f4").reshape(N, D), np.fromfile(means, "<f4").reshape(K, D)
    seconds, loglik, mean, variance = {"sklearn": by_sklearn, "torch": by_torch}[peer](h, mu)
    np.concatenate([mean.ravel(), variance.ravel()]).astype("<f4").tofile(out)
    print(json.dumps({"seconds": seconds, "loglik": float(loglik)}))


# ---- the comparison ----

def make_data(directory, N, K, D):
    """Rows of unit length around K / 2 centres, and K of them as means."""
    rng = np.random.default_rng(1)
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    centres = unit(rng.normal(size=(K // 2, D)))
    h = unit(centres[rng.integers(0, len(centres), N)] + 0.8 / np.sqrt(D) * rng.normal(size=(N, D))).astype("<f4")
    means = h[rng.choice(N, K, replace=False)]
    h.tofile(directory / "rows")
    means.tofile(directory / "means")


def command_of(peer, directory):
    if peer == "ours":
        return [str(BUILD / "bench" / "bench_mixture")]
    if peer == "armadillo":
        return [str(directory / "armadillo")]
    return [sys.executable, str(HERE / "bench_mixture.py"), "--peer", peer]


def run_shortcuts(directory, N, K, D):
    """Seconds with and without each, and how far results differ, which must be as little as is said."""
    arguments = [str(BUILD / "bench" / "bench_shortcuts"), str(directory / "rows"), str(directory / "means"), str(N), str(K), str(D)]
    untold = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE" or not TOLD}
    found = json.loads(subprocess.run(arguments, check=True, stdout=subprocess.PIPE).stdout)
    found["untold"] = json.loads(subprocess.run(arguments + ["products"], check=True, stdout=subprocess.PIPE, env=untold).stdout)["products"]
    for name, (_, _, _, bound, _) in SHORTCUTS.items():
        assert found[name]["difference"] <= bound(N, D, K), (name, found[name])
    return found


def run_kernels(directory, N, K, D, rounds):
    """The whole iteration, with and without the widest kernels of this processor: by narrower ones, in turns."""
    widest, found = run_peer("ours", directory, N, K, D), {}
    for kernels in ("portable", "avx2", "avx512"):
        if kernels == widest["kernels"]:
            break
        seconds = {"with": [], "without": []}
        for _ in range(rounds):
            answer = run_peer("ours", directory, N, K, D, {**os.environ, "DECANT_KERNELS": kernels})
            check_same(kernels, widest, answer)
            seconds["without"].append(answer["seconds"])
            seconds["with"].append(run_peer("ours", directory, N, K, D)["seconds"])
        found[kernels] = {which: min(times) for which, times in seconds.items()}
    return found


def run_peer(peer, directory, N, K, D, environment=None):
    arguments = [str(directory / "rows"), str(directory / "means"), str(N), str(K), str(D), str(directory / f"{peer}.out")]
    answer = json.loads(subprocess.run(command_of(peer, directory) + arguments, check=True, stdout=subprocess.PIPE, env=environment).stdout)
    answer["mean"], answer["variance"] = np.fromfile(directory / f"{peer}.out", "<f4").reshape(2, K, D)
    return answer


def check_same(name, ours, peer):
    """Means within 1e-4, variances within 1e-4 (they are differences of near-equal sums), the log-likelihood within 1e-5."""
    np.testing.assert_allclose(peer["loglik"], ours["loglik"], rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(peer["mean"], ours["mean"], atol=1e-4, rtol=0, err_msg=name)
    np.testing.assert_allclose(np.maximum(peer["variance"], FLOOR), ours["variance"], atol=1e-4, rtol=0, err_msg=name)


def run_part(peer, directory, N, rows, K, D):
    """The peer on the first rows alone, as if it had had all."""
    ours, answer = (run_peer(p, directory, rows, K, D) for p in ("ours", peer))
    np.testing.assert_allclose(answer["loglik"], ours["loglik"], rtol=1e-5, err_msg=f"{peer}, {rows} rows")
    return answer["seconds"] * N / rows


def measure(size, rounds, directory):
    N, D, K = (int(x) for x in size.split("x"))
    make_data(directory, N, K, D)
    best, first = {}, {}
    part = int(min(N, ARMADILLO_PRODUCTS / (K * D)))
    for r in range(rounds):
        for peer in PEERS:
            if best.get(peer, 0) > SLOW:
                continue
            print(f"{size}, round {r + 1} of {rounds}: {peer}", file=sys.stderr, flush=True)
            if peer == "armadillo" and part < N:
                best[peer] = min(best.get(peer, 1e9), run_part(peer, directory, N, part, K, D))
                continue
            answer = run_peer(peer, directory, N, K, D)
            first.setdefault(peer, answer)
            check_same(f"{peer}, {size}", first["ours"], answer)
            best[peer] = min(best.get(peer, 1e9), answer["seconds"])
            if peer == "ours":
                best["sgemm"] = max(best.get("sgemm", 0), answer["sgemm_gflops"])
    print(f"{size}: shortcuts", file=sys.stderr, flush=True)
    shortcuts, kernels = run_shortcuts(directory, N, K, D), run_kernels(directory, N, K, D, rounds)
    fastest = min((p for p in PEERS if p != "ours"), key=best.get)
    return {"armadillo_rows": part, "rows": N, "dimensions": D, "components": K, "seconds": {p: best[p] for p in PEERS}, "fastest_peer": fastest,
            "times_fastest": best[fastest] / best["ours"], "times_sklearn": best["sklearn"] / best["ours"],
            "gflops": 8e-9 * N * K * D / best["ours"], "sgemm_gflops": best["sgemm"],
            "shortcuts": shortcuts, "narrower_kernels": kernels, "kernels": first["ours"]["kernels"], "blas": first["ours"]["blas"]}


def print_table(results):
    told = os.environ.get("OPENBLAS_CORETYPE", "left to itself")
    print(f"one core, CPU seconds an iteration; our kernels {results[0]['kernels']}, OpenBLAS's {results[0]['blas']} (OPENBLAS_CORETYPE: {told})")
    for r in results:
        if r["armadillo_rows"] < r["rows"]:
            print(f"Armadillo, {r['rows']} x {r['dimensions']}, {r['components']}: from its time for {r['armadillo_rows']} rows")
    print("| rows x D, K | ours | " + " | ".join(PEERS[1:]) + " | fastest peer / ours | scikit-learn / ours | 8NKD GFLOP/s | sgemm GFLOP/s |")
    print("|---|" + "---|" * 8)
    for r in results:
        seconds = " | ".join(f"{r['seconds'][p]:.3f}" for p in PEERS)
        print(f"| {r['rows']} x {r['dimensions']}, {r['components']} | {seconds} | {r['times_fastest']:.2f} | "
              f"{r['times_sklearn']:.1f} | {r['gflops']:.0f} | {r['sgemm_gflops']:.0f} |")


def print_shortcuts(results):
    print("\n| rows x D, K | shortcut | instead of | ms with, without | gain | iteration | result |")
    print("|---|" + "---|" * 6)
    for r in results:
        size, ours = f"{r['rows']} x {r['dimensions']}, {r['components']}", r["seconds"]["ours"]
        for name, (what, instead, exact, _, part) in SHORTCUTS.items():
            found = r["shortcuts"][name]
            both, gain = f"{1e3 * found['with']:.4g}, {1e3 * found['without']:.4g}", found["without"] / found["with"]
            iteration = f"{1 + (found['without'] - found['with']) / ours:.2f}" if part else f"{gain:.2f}" if name == "dropping" else ""
            print(f"| {size} | {what} | {instead} | {both} | {gain:.2f} | {iteration} | {exact}: {found['difference']:.1g} |")
        for kernels, found in r["narrower_kernels"].items():
            both, gain = f"{1e3 * found['with']:.4g}, {1e3 * found['without']:.4g}", found["without"] / found["with"]
            exact = "exact" if kernels == "avx512" else "rounding"  # beside amx: the sieve alone
            print(f"| {size} | kernels {r['kernels']} | {kernels} | {both} | {gain:.2f} | {gain:.2f} | {exact} |")


def main():
    if sys.argv[1:2] == ["--peer"]:
        peer, rows, means, N, K, D, out = sys.argv[2:]
        run_here(peer, rows, means, int(N), int(K), int(D), out)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default=str(BUILD / "bench" / "mixture.json"))
    parser.add_argument("sizes", nargs="*", default=SIZES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="decant-mixture-") as name:
        directory = pathlib.Path(name)
        subprocess.run(["g++", "-std=c++17", "-O3", "-march=native", str(HERE / "bench_mixture_armadillo.cpp"), "-o",
                        str(directory / "armadillo"), "-larmadillo"], check=True)
        results = [measure(size, options.rounds, directory) for size in options.sizes]
    print_table(results)
    print_shortcuts(results)
    with open(options.out, "w") as f:
        json.dump(results, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
