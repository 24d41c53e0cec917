"""What is run: data sets, objectives, regimes, and the presets that choose among them.

A cell is one training run with its evaluation. Everything that tells two cells of a data set apart stands here, as settings on top of
the data set's configuration: both sides of a comparison get the same encoder, views, steps, learning rate and terms.
"""

import collections
import hashlib

# Every objective with the values that it was tuned to, the same for joint and decoupled prototypes.
OBJECTIVES = {
    "dino": ["loss.objective=dino", "loss.temperature_teacher_start=0.04", "loss.temperature_teacher=0.07"],
    "swav": ["loss.objective=swav"],
    "carp": ["loss.objective=carp", "loss.temperature_teacher=0.1", "loss.entropy_weight=3"],
}
# Terms that keep the student's embeddings spread (docs/design/0006-loss-terms.md). CARP has a mean entropy of its own.
TERMS = {
    "carp": ["loss.coding_rate=1"],
    "dino": ["loss.mean_entropy=2", "loss.coding_rate=1"],
    "swav": ["loss.mean_entropy=1", "loss.coding_rate=1"],
}
# And one that keeps features spread, on both sides: 0.15 where the joint side's k-NN is better with it (seed 1; for emoji of three to five
# weights), else 0. On Fashion-MNIST it was tried with the decoupled side only, whose k-NN did not change (docs/design/0010-grid.md).
FEATURE_RATE = {"emoji": 0.15, "fashion": 0, "glyphs": 0, "hangul": 0, "icons": 0.15, "letters": 0, "photos": 0.15}
NO_TERMS = ["loss.mean_entropy=0", "loss.coding_rate=0", "loss.feature_rate=0"]

JOINT = ["loss.prototypes=joint"]
# The learning rate of joint prototypes over the encoder's: the best k-NN on emoji with seed 1, of 1, 5 and 20 for DINO, of 1 and 20 for the
# others (docs/design/0010-grid.md). The decoupled regime was chosen on the same set and seed.
JOINT_RATE = 1
RESEED = ["mixture.reseed_max=12", "mixture.reseed_distance=0.09"]
VIEWS = ["mixture.source=views", "mixture.reseed_choice=farthest", "mixture.balance=0"]
IMAGES = ["mixture.source=images", "mixture.reseed_choice=random", "mixture.balance=0.1"]
REGIMES = {
    "frozen": ("prototypes stay the random ones of the start: what prototypes bring at all", JOINT + ["optimiser.prototype_lr=0"], False),
    "joint": ("prototypes are parameters under the encoder's loss", JOINT, False),
    "koleo": ("joint, and KoLeo pushes each prototype from its nearest", JOINT + ["loss.koleo=0.1"], False),
    "half": ("prototypes are parameters with a loss of their own, as in CAPI", JOINT + ["loss.prototype_loss=own"], False),
    "plain": ("decoupled: means of a mixture of augmented views, online EM alone", VIEWS + ["mixture.reseed_usage=0"], False),
    "views": ("... and unused components are re-seeded with the farthest embeddings", RESEED + VIEWS, False),
    "decoupled": ("decoupled: a mixture of images as they are, re-seeding where images are, prices that keep components in use",
                  RESEED + IMAGES, False),
    "joint + terms": ("joint, with the terms of the loss", JOINT, True),
    "views + terms": ("a mixture of augmented views, with the same terms", RESEED + VIEWS, True),
    "decoupled + terms": ("decoupled, with the same terms", RESEED + IMAGES, True),
}
# What is compared, seed by seed: the strongest of each side.
PAIR = ("decoupled + terms", "joint + terms")

# How each image set is made; Fashion-MNIST is a Debian package.
DATA = {"emoji": ["deploy/datasets/emoji"], "fashion": None, "glyphs": ["deploy/datasets/glyphs", "--classes", "500"],
        "hangul": ["deploy/datasets/glyphs", "--script", "hangul", "--classes", "500"], "icons": ["deploy/datasets/icons"],
        "letters": ["deploy/datasets/glyphs", "--script", "letters"], "photos": ["deploy/datasets/photos"]}

# Where each set's images are, seen from the tree.
PLACES = {"emoji": "datasets/emoji.npz", "fashion": "/usr/share/datasets/fashion-mnist", "glyphs": "datasets/glyphs-500.npz",
          "hangul": "datasets/hangul-500.npz", "icons": "datasets/icons.npz", "letters": "datasets/letters.npz", "photos": "datasets/photos.npz"}
# Every encoder is also tried on those of these that are there and that it was not trained on.
OTHERS = ("emoji", "fashion", "glyphs", "icons", "photos")

Cell = collections.namedtuple("Cell", "data objective regime components seed settings")


def cell(data, objective, regime, components, seed, more):
    _, settings, terms = REGIMES[regime]
    if settings[:1] == JOINT and regime != "frozen":
        settings = settings + [f"optimiser.prototype_lr={JOINT_RATE}"]
    spread = TERMS[objective] + [f"loss.feature_rate={FEATURE_RATE[data]:g}"]
    settings = OBJECTIVES[objective] + settings + (spread if terms else NO_TERMS)
    return Cell(data, objective, regime, components, seed,
                settings + [f"mixture.components={components}", f"run.seed={seed}"] + more)


def directory(c):
    """A name that changes with the settings, so that a run of another grid is never taken for this one's."""
    regime = c.regime.replace(" + ", "-")
    digest = hashlib.sha256("\n".join(c.settings).encode()).hexdigest()[:8]
    return f"{c.data}-{c.objective}-{regime}-K{c.components}-s{c.seed}-{digest}"


def preset_mini():
    """For the test: seconds."""
    more = ["run.steps=6", "data.limit=600", "encoder.widths=8,8", "head.hidden=16", "mixture.dimensions=16", "run.slots=2",
            "run.slot_size=32", "loss.block=16", "run.checkpoint_every=3", "eval.bank=600", "eval.queries=200"]
    return [cell("fashion", "dino", regime, 32, seed, more) for regime in PAIR for seed in (1, 2)]


def preset_quick():
    more = ["run.epochs=3", "run.checkpoint_every=50"]
    return [cell("glyphs", objective, regime, 1024, 1, more) for objective in OBJECTIVES for regime in PAIR]


def pairs(seeds, sets=("glyphs", "emoji", "icons")):
    more = ["run.checkpoint_every=100"]
    return [cell(data, objective, regime, 1024, seed, more)
            for seed in seeds for data in sets for objective in OBJECTIVES for regime in PAIR]


def preset_default():
    """One seed of everything, and on emoji what each part brings."""
    return pairs([1]) + [cell("emoji", "dino", regime, 1024, 1, ["run.checkpoint_every=100"])
                         for regime in ("views + terms", "frozen", "joint", "koleo", "half", "plain", "views", "decoupled")]


def preset_seeds():
    return pairs([1, 2, 3], ("glyphs", "emoji", "icons", "photos", "fashion"))


def preset_scripts():
    """Sets that nothing was chosen on: what was found on the others, tried on two more scripts."""
    return pairs([1, 2, 3], ("hangul", "letters"))


def preset_full():
    """Longer, three seeds of five sets; every regime on emoji; other numbers of prototypes where there are many classes."""
    epochs = {"emoji": 40, "fashion": 12, "glyphs": 12, "icons": 60, "photos": 20}
    more = {data: ["run.checkpoint_every=200", f"run.epochs={n}"] for data, n in epochs.items()}
    cells = [c._replace(settings=c.settings[:-1] + more[c.data]) for c in preset_seeds()]
    cells += [cell("emoji", objective, regime, 1024, 1, more["emoji"])
              for objective in OBJECTIVES for regime in REGIMES if regime not in PAIR]
    return cells + [cell(data, "dino", regime, components, 1, more[data])
                    for data in ("emoji", "glyphs") for components in (256, 4096, 16384) for regime in PAIR]


# Presets whose evaluations have logistic regression too.
WITH_LINEAR = {"mini", "seeds", "scripts", "full"}
PRESETS = {"mini": preset_mini, "quick": preset_quick, "default": preset_default, "seeds": preset_seeds, "scripts": preset_scripts,
           "full": preset_full}
