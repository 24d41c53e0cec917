#!/usr/bin/env python3
"""Writes em_vmf_*.json: online EM of von Mises-Fisher components in float64 (numpy; Bessel functions by mpmath), three batches each, in the
form of the other em_* files. `var` is 1/kappa, S2 is not there, `log_norm` is log C_D(kappa). Run it from anywhere."""
import json, os
import mpmath
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
mpmath.mp.dps = 40
unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)


def log_normaliser(D, kappa):
    nu, kappa = mpmath.mpf(D) / 2 - 1, mpmath.mpf(float(kappa))
    return float(nu * mpmath.log(kappa) - mpmath.mpf(D) / 2 * mpmath.log(2 * mpmath.pi) - mpmath.log(mpmath.besseli(nu, kappa)))


def concentration(R, D):
    return R * (D - R * R) / (1 - R * R)


class Mixture:
    def __init__(s, mu0, eta, floor, reseed=0.0, rdist=0.05, rmax=8, usem=0.97):
        s.K, s.D = mu0.shape
        s.eta, s.floor, s.reseed, s.rdist, s.rmax, s.usem = eta, floor, reseed, rdist, rmax, usem
        low, high = 0.0, 1.0
        for _ in range(200):                                     # |S1|/N of a fresh component: kappa = D
            middle = (low + high) / 2
            low, high = (middle, high) if concentration(middle, s.D) < s.D else (low, middle)
        s.fresh = low
        s.N, s.S1, s.use = np.ones(s.K), s.fresh * mu0, np.full(s.K, 1 / s.K)
        s.maximise()

    def maximise(s):
        length = np.linalg.norm(s.S1, axis=1)
        s.mu = s.S1 / length[:, None]
        s.var = np.maximum(1 / concentration(length / s.N, s.D), s.floor)
        s.log_norm = np.array([log_normaliser(s.D, 1 / v) for v in s.var])

    def responsibilities(s, H, beta):
        l = s.log_norm - np.log(s.K) + H @ (s.mu / s.var[:, None]).T
        top = l.max(1, keepdims=True)
        g = np.exp(beta * (l - top))
        return g / g.sum(1, keepdims=True), float((top[:, 0] + np.log(np.exp(l - top).sum(1))).mean())

    def move_unused(s, H):
        order = sorted(range(s.K), key=lambda k: (s.use[k], k))[:s.rmax]
        distance, done = 1 - (H @ s.mu.T).max(1), []
        for k in [k for k in order if s.use[k] < s.reseed / s.K]:
            j = int(distance.argmax())
            if distance[j] < s.rdist:
                break
            distance = np.minimum(distance, 1 - H @ H[j])
            s.N[k], s.S1[k], s.use[k] = 1, s.fresh * H[j], 1 / s.K
            done.append([k, j])
        return done

    def step(s, H, beta):
        g, loglik = s.responsibilities(H, beta)
        n = g.sum(0)
        decay = s.eta ** n
        s.N = decay * s.N + n
        s.S1 = decay[:, None] * s.S1 + g.T @ H
        s.use = s.usem * s.use + (1 - s.usem) * n / n.sum()
        reseeded = s.move_unused(H)
        s.maximise()
        return dict(use=s.use.tolist(), reseeded=reseeded, resp=g.tolist(), mean_loglik=loglik, N=s.N.tolist(), S1=s.S1.tolist(),
                    mu=s.mu.tolist(), var=[[v] * s.D for v in s.var], log_norm=s.log_norm.tolist(), proto=s.mu.tolist())


def unique(C, eps):
    kept = []
    for k in range(len(C)):
        if all(1 - C[k] @ C[j] >= eps for j in kept):
            kept.append(k)
    return len(kept) / len(C)


def write(name, K, D, N, seed, **options):
    rng = np.random.default_rng(seed)
    mu0 = unit(rng.normal(size=(K, D)))
    m = Mixture(mu0, eta=0.98, floor=1e-3, **options)
    f = dict(K=K, D=D, N=N, cov="vmf", prior="uniform", topm=0, eta=0.98, floor=1e-3, sigma0sq=1 / D, n0=1.0, **options,
             mu0=mu0.tolist(), log_norm0=m.log_norm.tolist(), steps=[])
    centres = unit(rng.normal(size=(max(3, K // 4), D)))
    for beta in (0.5, 0.75, 1.0):
        H = unit(centres[rng.integers(0, len(centres), N)] + 0.2 * rng.normal(size=(N, D))).astype(np.float32).astype(float)
        f["steps"].append(dict(beta=beta, H=H.tolist(), expect=m.step(H, beta)))
    f["unique_after"] = {str(e): unique(m.mu, e) for e in (0.025, 0.1, 0.25, 0.5)}
    with open(os.path.join(HERE, f"em_vmf_{name}.json"), "w") as out:
        json.dump(f, out)


write("K5_D3_N16", 5, 3, 16, 1)
write("K32_D8_N64_reseed", 32, 8, 64, 2, reseed=0.9, rdist=0.05, rmax=4, usem=0.5)
