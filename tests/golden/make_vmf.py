#!/usr/bin/env python3
"""Writes vmf.json: log C_D(kappa) of the von Mises-Fisher distribution with 60 digits (mpmath), rounded to float64. Run it from anywhere."""
import json, os
import mpmath

mpmath.mp.dps = 60
DIMENSIONS = [2, 3, 4, 5, 8, 17, 41, 81, 82, 83, 128, 256, 777, 4096]
KAPPAS = ["1e-3", "0.1", "1", "7.5", "50", "128", "1000", "12345.678", "1e6", "1e9"]


def log_normaliser(D, kappa):
    nu = mpmath.mpf(D) / 2 - 1
    if kappa > 1e5:      # the defining series would take kappa terms: Hankel's expansion for large arguments
        mu, term, total = 4 * nu * nu, mpmath.mpf(1), mpmath.mpf(1)
        for k in range(1, 4000):
            following = -term * (mu - (2 * k - 1) ** 2) / (k * 8 * kappa)
            term = following
            total += term
            if abs(term) < mpmath.mpf(10) ** -50:
                break
        else:
            raise ArithmeticError((D, kappa))
        log_bessel = kappa - mpmath.log(2 * mpmath.pi * kappa) / 2 + mpmath.log(total)
    else:
        log_bessel = mpmath.log(mpmath.besseli(nu, kappa))
    return nu * mpmath.log(kappa) - mpmath.mpf(D) / 2 * mpmath.log(2 * mpmath.pi) - log_bessel


rows = [[D, float(k), float(log_normaliser(D, mpmath.mpf(float(k))))] for D in DIMENSIONS for k in KAPPAS]
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "vmf.json"), "w") as f:
    f.write('{"columns": ["D", "kappa", "log C_D(kappa)"], "rows": [\n ' + ",\n ".join(json.dumps(r) for r in rows) + "\n]}\n")
