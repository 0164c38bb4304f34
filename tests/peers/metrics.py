"""Metrics and intervals as scikit-learn and scipy compute them, on seeded scores; kept in tests/golden/metrics.

pip install scikit-learn scipy && python tests/peers/metrics.py tests/golden/metrics/expected.json
"""

import json
import sys

import numpy as np
import scipy
import sklearn
from scipy import stats
from sklearn import metrics as sk


def defined(value):
    return None if value is None or np.isnan(value) else float(value)


def ece(p, y, n_bins):
    """Bins of equal mass, equal scores never parted."""
    order = np.argsort(p, kind="stable")
    p, y = p[order], y[order]
    first = np.searchsorted(p, p, side="left")
    bins = first * n_bins // len(p)
    return sum(abs(p[bins == b].mean() - y[bins == b].mean()) * (bins == b).sum() for b in np.unique(bins)) / len(p)


def case(rng, n, grid, prevalence):
    y = rng.random(n) < prevalence
    y[0], y[1] = True, False
    p = np.clip(rng.normal(0.45 + 0.2 * y, 0.25), 0.0, 1.0)
    if grid:
        p = np.round(p * grid) / grid
    called = p >= 0.5
    tn, fp, fn, tp = sk.confusion_matrix(y, called, labels=[False, True]).ravel()
    fpr, tpr, _ = sk.roc_curve(y, p, drop_intermediate=False)
    wilson = lambda k, m: list(stats.binomtest(int(k), int(m)).proportion_ci(method="wilson")) if m else None
    other = rng.random(n) < 0.5
    only_first = int(((called == y) & (other != y)).sum())
    only_second = int(((called != y) & (other == y)).sum())
    boot = lambda f: stats.bootstrap((p, y), f, paired=True, vectorized=False, n_resamples=20000, method="percentile", random_state=5).confidence_interval
    brier = boot(lambda p, y: np.mean((p - y) ** 2))
    return {
        "scores": p.tolist(), "truth": [bool(t) for t in y],
        "counts": [int(tp), int(fp), int(tn), int(fn)],
        "precision": defined(sk.precision_score(y, called, zero_division=np.nan)),
        "recall": defined(sk.recall_score(y, called, zero_division=np.nan)),
        "accuracy": sk.accuracy_score(y, called),
        "false_positive_rate": fp / (fp + tn),
        "f1": defined(sk.fbeta_score(y, called, beta=1.0, zero_division=np.nan)),
        "f05": defined(sk.fbeta_score(y, called, beta=0.5, zero_division=np.nan)),
        "mcc": sk.matthews_corrcoef(y, called) if len(set(called)) == 2 else None,
        "auroc": sk.roc_auc_score(y, p), "auprc": sk.average_precision_score(y, p),
        "tpr_at_fpr": [float(tpr[fpr <= limit].max()) for limit in (0.005, 0.01, 0.05)],
        "brier": sk.brier_score_loss(y, p), "log_loss": sk.log_loss(y, p, labels=[False, True]),
        "ece": ece(p, y.astype(float), 10),
        "wilson_recall": wilson(tp, tp + fn), "wilson_precision": wilson(tp, tp + fp),
        "mcnemar": [only_first, only_second, stats.binomtest(min(only_first, only_second), max(only_first + only_second, 1), 0.5).pvalue if only_first + only_second else 1.0],
        "brier_bootstrap": [brier.low, brier.high],
    }


rng = np.random.default_rng(11)
cases = [case(rng, n, grid, prevalence) for n, grid, prevalence in
         [(40, 0, 0.5), (40, 5, 0.5), (200, 0, 0.1), (200, 20, 0.9), (7, 2, 0.5), (1000, 0, 0.5)]]
json.dump({"sklearn": sklearn.__version__, "scipy": scipy.__version__, "cases": cases}, open(sys.argv[1], "w"))
print(len(cases), "cases")
