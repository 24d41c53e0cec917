#!/usr/bin/env python3
"""Writes em_sklearn.json: responsibilities and log-likelihoods by scikit-learn's GaussianMixture (python3-sklearn) of mixtures whose
parameters are given, for each form of covariance. Nothing else needs scikit-learn. Run it from anywhere."""
import json, os
import numpy as np
from sklearn.mixture import GaussianMixture
from sklearn.mixture._gaussian_mixture import _compute_precision_cholesky

K, D, N = 7, 6, 24
rng = np.random.default_rng(3)
f32 = lambda x: np.asarray(x, np.float32).astype(float)
unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)


def matrix():
    """A covariance whose axes lie anywhere, with deviations between 0.1 and 0.5."""
    axes = np.linalg.qr(rng.normal(size=(D, D)))[0]
    return axes * rng.uniform(0.1, 0.5, D) ** 2 @ axes.T


covariances = {"spherical": f32(rng.uniform(0.02, 0.2, K)), "diag": f32(rng.uniform(0.02, 0.2, (K, D))),
               "full": np.array([matrix() for _ in range(K)]), "tied": matrix()}
means, weights = f32(0.9 * unit(rng.normal(size=(K, D)))), rng.dirichlet(np.full(K, 3.0))
H = f32(unit(means[rng.integers(0, K, N)] + 0.3 * rng.normal(size=(N, D))))
result = dict(K=K, D=D, N=N, weights=weights.tolist(), means=means.tolist(), H=H.tolist(), forms={})
for form, covariance in covariances.items():
    g = GaussianMixture(K, covariance_type=form)
    g.weights_, g.means_, g.covariances_ = weights, means, covariance
    g.precisions_cholesky_ = _compute_precision_cholesky(covariance, form)
    result["forms"][form] = dict(covariances=covariance.tolist(), resp=g.predict_proba(H).tolist(), loglik=g.score_samples(H).tolist())
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "em_sklearn.json"), "w") as out:
    json.dump(result, out)
