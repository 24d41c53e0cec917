#!/usr/bin/env python3
"""Advice about image sets, taken: every conversion that `decant dataset check` prints is run and keeps the images, every
[data] section that it prints is loaded by `decant doctor` and gives the same images, every path that it names is right.

Ends with "N passed, M failed"."""
import io
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile

import numpy
from PIL import Image, ImageOps

from live_run import run_tests, wait_for

DECANT = os.path.abspath(os.path.join(os.environ.get("BUILD", "build"), "bin/decant"))
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("DECANT_")}


def decant(*arguments, cwd=None):
    done = subprocess.run([DECANT, *arguments], env=ENVIRONMENT, text=True, capture_output=True, timeout=60, cwd=cwd, check=False)
    return done.returncode, done.stdout, done.stderr


def printed_python(text):
    """The expression on an array a that an error advises."""
    found = re.search(r"save (numpy\..+?|a\..+?)(?:, with the same two bounds.*| of this array a)?$", text.strip())
    return found.group(1) if found else None


def field(output, name):
    return re.search(rf"^  {name} +(.+)$", output, re.M).group(1)


def section(output):
    return output[output.index("[data]"):]


def noise(shape, seed=0):
    return numpy.random.default_rng(seed).random(shape)


class Case:
    def __init__(self, work):
        self.work = work
        self.count = 0

    def place(self):
        self.count += 1
        path = os.path.join(self.work, str(self.count))
        os.mkdir(path)
        return path

    def follow(self, save, load, limit=4):
        """Saves, asks, does what is said, until there is nothing more to say; the expressions that were run."""
        taken = []
        while True:
            path = save()
            code, out, err = decant("dataset", "check", path)
            expression = printed_python(err) if code else None
            for line in out.splitlines():
                expression = expression or printed_python(line)
            if expression is None:
                assert code == 0, out + err
                return taken
            taken.append(expression)
            assert len(taken) <= limit, taken
            load(eval(expression, {"numpy": numpy, "a": load(None)}))

    def images(self, array):
        held, place = [array], self.place()

        def save():
            path = os.path.join(place, "set.npy")
            numpy.save(path, held[0])
            return path

        def load(value):
            if value is not None:
                held[0] = value
            return held[0]

        return self.follow(save, load), held[0]

    def test_conversions_of_images_keep_them(self):
        grey = noise((40, 6, 5))
        arrays = {
            "float64 in 0..1": grey, "float32 in -1..1": (2 * grey - 1).astype("f4"), "float16 in 0..255": (255 * grey).astype("f2"),
            "12 bits in uint16": (4095 * grey).astype("u2"), "16 bits": (65535 * grey).astype(">u2"), "int32": (1e6 * grey).astype("i4") - 500000,
            "int8": (255 * grey - 128).astype("i1"), "bool": grey > 0.5, "long double": grey.astype("f16"),
        }
        for name, array in arrays.items():
            taken, done = self.images(array)
            assert len(taken) == (2 if name == "long double" else 1), (name, taken)
            assert done.dtype == numpy.uint8 and done.shape == array.shape, name
            assert (done.min(), done.max()) == (0, 255), (name, done.min(), done.max())
            assert numpy.corrcoef(array.astype("f8").ravel(), done.astype("f8").ravel())[0, 1] > 0.999, name

    def test_conversions_of_shape_and_order(self):
        planes = noise((10, 3, 8, 9)).astype("f4")
        taken, done = self.images(planes)
        assert len(taken) == 2 and done.shape == (10, 8, 9, 3), taken
        assert numpy.corrcoef(done.transpose(0, 3, 1, 2).astype("f8").ravel(), planes.ravel())[0, 1] > 0.999
        fortran = numpy.asfortranarray((255 * noise((9, 7, 6))).astype("u1"))
        taken, done = self.images(fortran)
        assert taken == ["numpy.ascontiguousarray(a)"] and (done == fortran).all()
        flat = (255 * noise((9, 49))).astype("u1")
        taken, done = self.images(flat)
        assert len(taken) == 1 and done.shape == (9, 7, 7) and (done.reshape(9, 49) == flat).all()
        bits = (noise((30, 6, 6)) > 0.5).astype("u1")
        taken, done = self.images(bits)
        assert len(taken) == 1 and (done == 255 * bits).all()

    def test_conversions_of_labels_keep_them(self):
        images = (255 * noise((30, 6, 6))).astype("u1")
        classes = numpy.arange(30) % 3
        for labels in (classes.astype("f4"), numpy.eye(3)[classes], numpy.array(["ant", "bee", "cat"])[classes], classes[:, None].astype("f8")):
            held, place = [labels], self.place()

            def save():
                path = os.path.join(place, "set.npz")
                numpy.savez(path, images=images, labels=held[0])
                return path

            def load(value):
                if value is not None:
                    held[0] = value
                return held[0]

            assert 1 <= len(self.follow(save, load)) <= 2
            assert (held[0].ravel() == classes).all(), held[0]

    def test_unread_arrays_are_named(self):
        path = os.path.join(self.place(), "set.npz")
        images = (255 * noise((30, 6, 6))).astype("u1")
        numpy.savez(path, x_train=images, Y_train=numpy.arange(30) % 3, X_validation=images, ids=numpy.arange(30))
        code, out, _ = decant("dataset", "check", path)
        assert code == 1 and "the array Y_train is not read" in out and "the array X_validation is not read" in out, out
        assert "ids" not in out, out
        assert "images left out" not in out, out

    def folder(self, path, mode="RGB", size=(9, 7), classes=("a", "b"), count=12, value=None):
        for k, name in enumerate(classes):
            os.makedirs(os.path.join(path, name), exist_ok=True)
            for i in range(count):
                channels = len(mode) if mode != "L" else 1
                pixels = (255 * noise((size[0], size[1], channels), 100 * k + i)).astype("u1") if value is None else \
                    numpy.full((size[0], size[1], channels), value, "u1")
                Image.fromarray(pixels.squeeze(), mode).save(os.path.join(path, name, f"{i}.png"))

    def test_sections_are_loaded_and_give_the_same_images(self):
        sets = []
        for name, how in {"plain": {}, "grey": {"mode": "L"}, "drawn": {"mode": "RGBA"}, "with blanks, and = signs": {}, "per%cent ünï": {}}.items():
            path = os.path.join(self.place(), name)
            self.folder(path, **how)
            sets.append((path, []))
        sets += [(sets[0][0], ["data.side=16"]), (sets[0][0], ["data.limit=5", "data.holdout=3", "data.channels=1"]),
                 (sets[2][0], ["data.background=white", "data.side=8"]), (sets[1][0], ["data.background=grey", "data.memory=0.01"])]
        faint = os.path.join(self.place(), "faint.npy")  # a deviation that four decimals would make nothing of
        array = numpy.zeros((400, 50, 50), "u1")
        array[7, 5, 5] = 20
        numpy.save(faint, array)
        sets.append((faint, []))
        elsewhere = self.place()
        for path, settings in sets:
            flags = [x for s in settings for x in ("--set", s)]
            code, out, err = decant("dataset", "check", os.path.relpath(path, self.work), *flags, cwd=self.work)
            assert code == 0, out + err
            ini = os.path.join(elsewhere, "pasted.ini")
            with open(ini, "w", encoding="utf-8") as f:
                f.write(section(out))
            _, found, err = decant("doctor", "--config", ini, cwd=elsewhere)
            assert re.search(r"^ok +config ", found, re.M) and f"{path}: " in found, found + err
            assert re.search(rf"^(ok|FAIL|fail) +data .*: {field(out, 'training images').split(',')[0]} training images", found, re.M), found
            code, again, err = decant("dataset", "check", path, "--config", ini, cwd=elsewhere)
            assert code == 0 and field(again, "fingerprint") == field(out, "fingerprint"), again + err
            assert section(again) == section(out)

    def test_a_path_that_no_line_can_hold(self):
        for name in ("a ;comment", "a #comment", "x" * 220):
            path = os.path.join(self.place(), name)
            self.folder(path)
            code, out, _ = decant("dataset", "check", path)
            if f"path = {path}\n" in out:
                assert name == "x" * 220  # a reader of long lines
                continue
            assert code == 0 and "--set data.path" in section(out), out
            ini = os.path.join(self.work, "pasted.ini")
            with open(ini, "w", encoding="utf-8") as f:
                f.write(section(out))
            code, again, err = decant("dataset", "check", path, "--config", ini)
            assert code == 0 and field(again, "fingerprint") == field(out, "fingerprint"), again + err

    def package(self, cache, name, files, links=()):
        """A Debian package in the cache of packages: {path: image, or the name of a file that is copied}, and links as (path, target)."""
        root = os.path.join(self.place(), name)
        os.makedirs(os.path.join(root, "DEBIAN"))
        with open(os.path.join(root, "DEBIAN", "control"), "w", encoding="utf-8") as f:
            f.write(f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: images\n")
        for path, image in files.items():
            file = os.path.join(root, path)
            os.makedirs(os.path.dirname(file), exist_ok=True)
            if isinstance(image, str):
                shutil.copyfile(image, file)
            else:
                image.save(file)
        for path, target in links:
            os.symlink(target, os.path.join(root, path))
        subprocess.run(["dpkg-deb", "-Znone", "--build", "--root-owner-group", root, os.path.join(cache, f"{name}_1_all.deb")], check=True,
                       stdout=subprocess.DEVNULL)

    def theme(self, cache, package, drawings, links=()):
        """A package of a theme in the cache of packages: {path below icons/: grey value of a disc on transparent ground}."""
        files = {}
        for path, value in drawings.items():
            side = int(re.search(r"(\d+)x", path).group(1))
            at = numpy.hypot(*(numpy.indices((side, side)) - side / 2)) < side / 3
            pixels = numpy.dstack([numpy.full((side, side), value, "u1")] * 3 + [255 * at.astype("u1")])
            files[f"usr/share/icons/t/{path}"] = Image.fromarray(pixels, "RGBA")
        self.package(cache, package, files, [(f"usr/share/icons/t/{name}", target) for name, target in links])

    def test_icons_of_themes(self):
        home = self.place()
        cache = os.path.join(home, "decant", "packages")
        os.makedirs(cache)
        script = os.path.join("deploy", "datasets", "icons")
        packages = re.search(r'for theme in """(.+?)"""', open(script, encoding="utf-8").read(), re.S).group(1).split()
        for n, theme in enumerate(packages + ["gnome-colors"]):
            drawings = {"48x48/actions/both.png": 10 + n, "24x24/actions/both.png": 10 + n, "16x16/actions/small.png": 5,
                        "48x48/actions/blank.png": 255, "48x48/other/elsewhere.png": 5}
            if theme in ("oxygen", "papirus", "tango"):
                drawings["32x32/places/few.png"] = 100 + n
            self.theme(cache, "gnome-colors-common" if theme == "gnome-colors" else f"{theme}-icon-theme", drawings,
                       [("48x48/actions/link.png", "both.png")])
        out = os.path.join(home, "icons.npz")
        command = [script, "--query", "papirus", "--themes", "2", "--side", "16", "--out", out]
        environment = {**ENVIRONMENT, "XDG_CACHE_HOME": home}
        done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        made = numpy.load(out)
        # Names in byte order: blank has label 0 and nothing to be seen, both 1, few 2. Both sizes of both; no link, nothing too small.
        assert list(made["y_test"]) == [1, 2], made["y_test"]
        themes = len(packages)  # with gnome-colors, without the one that is held out
        assert list(numpy.bincount(made["y_train"])) == [0, 2 * themes, 2], numpy.bincount(made["y_train"])
        assert made["x_train"].shape[1:] == (16, 16, 3) and made["x_test"][1, 8, 8, 0] == 100 + packages.index("papirus")
        assert made["x_train"][0, 0, 0, 0] == 255
        wrong = subprocess.run([script, "--query", "nobody"], env=environment, text=True, capture_output=True, timeout=60, check=False)
        assert wrong.returncode == 1 and "no such theme" in wrong.stderr

    def test_letters_of_typefaces(self):
        home = self.place()
        cache = os.path.join(home, "decant", "packages")
        os.makedirs(cache)
        script = os.path.join("deploy", "datasets", "glyphs")
        text = open(script, encoding="utf-8").read()
        lists = {name: packages.split() for name, packages in re.findall(r'^([A-Z_]+) = """(.+?)"""', text, re.S | re.M)}
        # The same face in every printed package is one face; of the queries' two one was there in print, and is not drawn again.
        plain, bold = (f"/usr/share/fonts/truetype/dejavu/DejaVuSans{weight}.ttf" for weight in ("", "-Bold"))
        for package in lists["LETTERS_PRINTED"] + lists["LETTERS_WRITTEN"] + lists["HANGUL"]:
            written = {"usr/share/fonts/c.ttf": bold} if package in lists["LETTERS_WRITTEN"] else {}
            self.package(cache, package, {"usr/share/fonts/b.ttf": plain, **written})
        out = os.path.join(home, "letters.npz")
        make = lambda *more: subprocess.run([script, "--side", "16", "--out", out, *more], env={**ENVIRONMENT, "XDG_CACHE_HOME": home}, text=True,
                                            capture_output=True, timeout=60, check=False)
        done = make("--script", "letters")
        assert done.returncode == 0, done.stderr
        made = numpy.load(out)
        count = made["y_train"].max() + 1
        assert count > 200 and all(list(made[f"y_{part}"]) == list(range(count)) for part in ("train", "test"))
        for part in ("x_train", "x_test"):
            x = made[part].astype("f8")
            assert x.shape == (count, 16, 16) and (x.min(axis=(1, 2)) < 100).all()  # ink in each
            # Every letter fills seven eighths of the square, in one direction at least, and stands in its middle.
            rows, columns = ((x < 250).any(axis=a) for a in (2, 1))
            extent = lambda marks: numpy.array([[m.argmax(), 15 - m[::-1].argmax()] for m in marks])
            high, wide = extent(rows), extent(columns)
            assert (numpy.maximum(high[:, 1] - high[:, 0], wide[:, 1] - wide[:, 0]) >= 11).all()
            assert all((numpy.abs(e.sum(axis=1) - 15) <= 2).all() for e in (high, wide))
            # No letter is drawn as another one is, as the Greek capital A would be.
            apart = numpy.abs(x[:, None] - x[None]).mean(axis=(2, 3)) + 255 * numpy.eye(count)
            assert apart.min() > 0.5, (apart.min(), divmod(int(apart.argmin()), int(count)))
        assert (made["x_train"] != made["x_test"]).any()
        done = make("--script", "letters", "--classes", "10")
        assert done.returncode == 0 and list(numpy.load(out)["y_test"]) == list(range(10)), done.stderr
        before = os.path.getmtime(out)
        done = make("--script", "hangul")
        assert done.returncode == 1 and "none of the printed faces has" in done.stderr and os.path.getmtime(out) == before, done.stderr
        assert "2 to 2350" in make("--script", "hangul", "--classes", "2351").stderr
        # Stopped, it leaves nothing; a package that is damaged and a place that cannot be written are named at once.
        temporary = os.path.join(home, "temporary")
        os.makedirs(temporary)
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            child = subprocess.Popen([script, "--script", "letters", "--out", out], stderr=subprocess.PIPE,
                                     env={**ENVIRONMENT, "XDG_CACHE_HOME": home, "TMPDIR": temporary})
            wait_for("its temporary files", lambda: os.listdir(temporary))
            child.send_signal(number)
            errors = child.communicate(timeout=60)[1]
            assert child.returncode == status and b"Traceback" not in errors and os.listdir(temporary) == [], errors
        assert os.path.getmtime(out) == before
        with open(os.path.join(cache, "fonts-cabin_1_all.deb"), "r+b") as f:
            f.truncate(100)
        done = make("--script", "letters")
        assert done.returncode == 1 and "fonts-cabin: dpkg-deb could not read it" in done.stderr and "Traceback" not in done.stderr, done.stderr
        done = make("--out", home)
        assert done.returncode == 1 and "a directory" in done.stderr, done.stderr
        done = make("--out", os.path.join(out, "below"))
        assert done.returncode == 1 and "cannot be written" in done.stderr and "Traceback" not in done.stderr, done.stderr

    def test_patches_of_photographs(self):
        home = self.place()
        cache = os.path.join(home, "decant", "packages")
        os.makedirs(cache)
        script = os.path.join("deploy", "datasets", "photos")
        packages = dict(re.findall(r'"([a-z0-9.-]+)": "+(.+?)"+,\n', open(script, encoding="utf-8").read(), re.S))
        names, folders = [n for p in packages.values() for n in p.split()], "plasma-workspace-wallpapers"
        assert len(names) == 38 and folders in packages
        for package, wanted in packages.items():
            files = {}
            for name in wanted.split():
                pixels = 255 * noise((96, 192, 3)) if name == "Aqua" else noise((192, 96, 3)) * (255 * (numpy.arange(192) >= 96))[:, None, None]
                place = f"usr/share/wallpapers/{name}/contents/images/96x192.png" if package == folders else f"usr/share/backgrounds/{name}.png"
                files[place] = Image.fromarray(pixels.astype("u1"))
            files["usr/share/backgrounds/drawn.png"] = Image.fromarray(numpy.zeros((8, 8, 3), "u1"))
            self.package(cache, package, files)
        out = os.path.join(home, "photos.npz")
        environment = {**ENVIRONMENT, "XDG_CACHE_HOME": home}
        make = lambda: subprocess.run([script, "--width", "64", "--side", "16", "--out", out], env=environment, text=True, capture_output=True,
                                      timeout=60, check=False)
        done = make()
        assert done.returncode == 0, done.stderr
        made, aqua = numpy.load(out), names.index("Aqua")
        # A landscape of 64 x 32 has halves of 32 x 32: nine patches that overlap, four that do not. The portraits' upper halves are black.
        assert list(numpy.bincount(made["y_train"], minlength=38)) == [9 * (k == aqua) for k in range(38)], numpy.bincount(made["y_train"])
        assert list(numpy.bincount(made["y_test"])) == [4] * 38, numpy.bincount(made["y_test"])
        assert made["x_train"].shape[1:] == made["x_test"].shape[1:] == (16, 16, 3)
        os.remove(os.path.join(cache, "lomiri-wallpapers-20.04_1_all.deb"))
        self.package(cache, "lomiri-wallpapers-20.04", {"usr/share/backgrounds/other.png": Image.fromarray(numpy.zeros((8, 8, 3), "u1"))})
        done = make()
        assert done.returncode == 1 and "lomiri-wallpapers-20.04 has no Kleiber_by_Lukas_Baubkus" in done.stderr, done.stderr

    def test_a_set_of_nothing_has_no_section(self):
        path = os.path.join(self.place(), "black")
        self.folder(path, value=0)
        code, out, _ = decant("dataset", "check", path)
        assert code == 1 and "all images are constant" in out and "[data]" not in out, out
        found = decant("doctor", "--set", f"data.path={path}", "--set", "run.slots=2", "--set", "run.slot_size=4")[1]
        assert not re.search("^ok +data .*training images", found, re.M) and re.search("^warn +data .*training images", found, re.M | re.I), found

    def test_named_paths_are_right(self):
        """What lies further in is found at the path that the error names; a renamed file is read."""
        top = self.place()
        inner = os.path.join(top, "MNIST", "raw")
        os.makedirs(inner)
        header = bytes((0, 0, 8, 3, 0, 0, 0, 20, 0, 0, 0, 4, 0, 0, 0, 4))
        with open(os.path.join(inner, "train-images.idx3-ubyte"), "wb") as f:
            f.write(header + (255 * noise((20, 4, 4))).astype("u1").tobytes())
        code, _, err = decant("dataset", "check", top)
        found, wanted = re.search(r"(\S+) looks like an IDX file: it is read under the name (\S+),", err).groups()
        assert code == 1
        os.rename(found, os.path.join(inner, wanted))
        code, _, err = decant("dataset", "check", top)
        assert code == 1
        code, out, err = decant("dataset", "check", re.search(r"further in: name (\S+)", err).group(1))
        assert code == 0 and field(out, "training images").startswith("20"), out + err
        wrapped = self.place()
        self.folder(os.path.join(wrapped, "photos", "animals"))
        code, out, _ = decant("dataset", "check", wrapped)
        assert code == 1
        code, out, err = decant("dataset", "check", re.search(r"^  (\S+): all images lie in folders of it", out, re.M).group(1))
        assert code == 0 and field(out, "training images").startswith("2"), out + err

    def test_progress_on_a_terminal(self):
        path = self.place()
        self.folder(path)
        array = os.path.join(self.place(), "set.npy")
        numpy.save(array, (255 * noise((600, 6, 6))).astype("u1"))
        for what, total in ((path, 22), (array, 600)):
            ours, theirs = pty.openpty()
            with subprocess.Popen([DECANT, "dataset", "check", what], env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=theirs) as p:
                assert p.wait(60) == 0
            os.close(theirs)
            said = os.read(ours, 4096).decode()
            os.close(ours)
            assert f"loading: {total} images: " in said and said.endswith("\r\033[K"), said
        assert decant("dataset", "check", path)[2] == ""  # a file gets no such lines

    def test_dropped_images_are_counted(self):
        path = self.place()
        self.folder(path)
        shutil.copy(os.path.join(path, "a", "0.png"), os.path.join(path, "loose.png"))
        for i in range(3):
            Image.fromarray((255 * noise((5, 5))).astype("u1")).save(os.path.join(path, "b", f"x{i}.gif"))
        code, out, _ = decant("dataset", "check", path)
        assert code == 1 and "problems: 2, 4 images left out" in out, out
        os.makedirs(os.path.join(path, "empty"))
        for name in ("loose.png", "b/x0.gif", "b/x1.gif", "b/x2.gif"):
            os.remove(os.path.join(path, name))
        code, out, _ = decant("dataset", "check", path)
        assert code == 1 and "problems: 1\n" in out, out

    def test_photographs_are_upright(self):
        """Against PIL: the same images, turned by it."""
        lying, standing = self.place(), self.place()
        for i in range(16):
            image = Image.fromarray((255 * noise((9, 7, 3), i)).astype("u1"))
            exif = Image.Exif()
            exif[0x0112] = i // 2 + 1
            name = os.path.join(lying, f"{i:02}." + ("png", "jpg")[i % 2])
            image.save(name, exif=exif, **({"quality": 95} if i % 2 else {}))
            ImageOps.exif_transpose(Image.open(name)).save(os.path.join(standing, f"{i:02}.png"), exif=Image.Exif())
        prints = []
        for path in (lying, standing):
            code, out, err = decant("dataset", "check", path, "--set", "data.side=9")
            assert code == 0 and field(out, "training images").startswith("16"), out + err
            prints.append(field(out, "fingerprint"))
        assert prints[0] == prints[1], prints

    def same_images(self, first, second, **settings):
        prints = []
        for path in (first, second):
            code, out, err = decant("dataset", "check", path, *[x for k, v in settings.items() for x in ("--set", f"data.{k}={v}")])
            assert code == 0, out + err
            prints.append((field(out, "training images"), field(out, "fingerprint")))
        assert prints[0] == prints[1], prints

    def test_webp_and_tiff(self):
        """Lossless files hold the same images as the PNG files that PIL makes of them."""
        rgb, rgba = (255 * noise((9, 7, 3))).astype("u1"), (255 * noise((9, 7, 4), 1)).astype("u1")
        rgba[:, :, 3] = numpy.where(rgba[:, :, 3] > 127, 255, 0)  # partial alpha is rounded on the way
        deep = (65535 * noise((9, 7))).astype("u2")
        palette = Image.fromarray(rgb).quantize(20)
        exif = Image.Exif()
        exif[0x0112] = 6
        files = [
            ("webp", Image.fromarray(rgb), {"lossless": True}), ("webp", Image.fromarray(rgba), {"lossless": True, "exact": True}),
            ("webp", Image.fromarray(rgb), {"lossless": True, "exif": exif}),
            ("tif", Image.fromarray(rgb), {}), ("TIFF", Image.fromarray(rgb), {"compression": "tiff_lzw"}),
            ("tif", Image.fromarray(rgb), {"compression": "tiff_adobe_deflate", "tiffinfo": {274: 6}}), ("tif", Image.fromarray(rgb[:, :, 0]), {}),
            ("tif", Image.fromarray(rgba), {}), ("tif", palette, {}), ("tif", Image.fromarray(rgb[:, :, 0] > 99), {"compression": "group4"}),
            ("tif", Image.fromarray(rgb[:, :, 0]), {"tiffinfo": {262: 0}}),
        ]
        given, plain = self.place(), self.place()
        for i, (ending, image, how) in enumerate(files):
            name = os.path.join(given, f"{i:02}.{ending}")
            image.save(name, **how)
            turned = "exif" in how or 274 in how.get("tiffinfo", ())
            again = image.transpose(Image.ROTATE_270) if turned else Image.open(name)
            again.save(os.path.join(plain, f"{i:02}.png"), exif=Image.Exif())
        for background in ("auto", "black", "white"):
            self.same_images(given, plain, side=9, channels=3, background=background)
        given, plain = self.place(), self.place()
        Image.fromarray(deep).save(os.path.join(given, "0.tif"))
        Image.fromarray((deep >> 8).astype("u1")).save(os.path.join(plain, "0.png"))
        self.same_images(given, plain)

    def test_what_webp_and_tiff_do_not_have(self):
        path = self.place()
        pictures = [Image.fromarray((255 * noise((9, 7, 3), i)).astype("u1")) for i in range(3)]
        pictures[0].save(os.path.join(path, "0.png"))
        pictures[0].save(os.path.join(path, "1.webp"), save_all=True, append_images=pictures[1:])
        pictures[0].save(os.path.join(path, "2.tif"), save_all=True, append_images=pictures[1:])
        pictures[0].convert("CMYK").save(os.path.join(path, "3.tif"))
        Image.fromarray(noise((9, 7)).astype("f4")).save(os.path.join(path, "4.tif"))
        code, out, _ = decant("dataset", "check", path)
        assert code == 1 and "problems: 4, 4 images left out" in out, out
        for said in ("1.webp: WebP: an animation", "2.tif: TIFF: several pages", "3.tif: TIFF: CMYK", "4.tif: TIFF: "):
            assert said in out, (said, out)

    def shard(self, path, samples, form=tarfile.PAX_FORMAT):
        """samples: (name, bytes)."""
        with tarfile.open(path, "w", format=form) as tar:
            for name, data in samples:
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))

    @staticmethod
    def encoded(pixels, form="PNG"):
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, format=form)
        return out.getvalue()

    def test_shards(self):
        """Archives of every dialect hold the same images and labels as an array."""
        images, classes = (255 * noise((60, 9, 7, 3))).astype("u1"), numpy.arange(60) % 4
        for form in (tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
            place = self.place()
            for s in range(3):
                samples = []
                for i in range(20 * s, 20 * s + 20):
                    key = f"{'long/' * 35}é{i:03}" if form != tarfile.USTAR_FORMAT and i % 3 == 0 else f"{i:03}"
                    both = [(f"{key}.png", self.encoded(images[i])), (f"{key}.cls", b"%d\n" % classes[i])]
                    samples += (both if i % 2 else both[::-1]) + [(f"{key}.seg.png", b"not looked at"), (f"{key}.json", b"{}")]
                self.shard(os.path.join(place, f"part-{s}.tar"), samples, form)
            array = os.path.join(self.place(), "set.npz")
            numpy.savez(array, images=images, labels=classes)
            self.same_images(place, array)
            self.same_images(place, array, holdout=0)
            self.same_images(place, array, limit=7)
            numpy.savez(array, images=images[:20], labels=classes[:20])
            self.same_images(os.path.join(place, "part-0.tar"), array)

    def test_splits_of_shards(self):
        images = (255 * noise((30, 9, 7, 3))).astype("u1")

        def samples(first, end):
            return [x for i in range(first, end) for x in ((f"{i}.png", self.encoded(images[i])), (f"{i}.cls", b"%d" % (i % 3)))]

        for names in (("train-0.tar", "train-1.tar", "val-0.tar"), ("train/0.tar", "train/1.tar", "Validation/0.tar"),
                      ("set_Training_0.tar", "set_Training_1.tar", "set_valid.tar")):
            place = self.place()
            for k, name in enumerate(names):
                os.makedirs(os.path.dirname(os.path.join(place, name)), exist_ok=True)
                self.shard(os.path.join(place, name), samples(10 * k, 10 * k + 10))
            code, out, err = decant("dataset", "check", place)
            assert code == 0 and field(out, "training images") == "20" and field(out, "test images") == "10", out + err
            assert "tar shards" in out.splitlines()[0]
        self.shard(os.path.join(place, "set_dev.tar"), samples(0, 3))
        code, out, err = decant("dataset", "check", place)
        assert code == 0 and re.search("note: .*set_dev.tar is not read", out) and field(out, "test images") == "10", out + err

    def test_labels_in_step_with_what_is_held_out(self):
        array, images = os.path.join(self.place(), "a.npz"), (255 * noise((60, 8, 8))).astype("u1")
        for labels, note in ((numpy.arange(60) % 5, "4 of 5 classes have none of the held-out images"), (numpy.arange(60) // 12, None)):
            numpy.savez(array, images=images, labels=labels)
            code, out, err = decant("dataset", "check", array)
            assert code == 0 and (note in out if note else "held-out images" not in out), out + err

    def test_shards_that_are_not_right(self):
        pixels = (255 * noise((9, 7, 3))).astype("u1")
        good = [(f"{i}.{x}", d) for i in range(8) for x, d in (("png", self.encoded((255 * noise((9, 7, 3), i)).astype("u1"))), ("cls", b"1"))]
        path = os.path.join(self.place(), "a.tar")

        def check(samples):
            self.shard(path, samples)
            return decant("dataset", "check", path, "--set", "data.holdout=0")

        code, out, _ = check(good[:-1] + [("7.cls", b"cat")])
        assert code == 1 and "a.tar/7.cls: no number in 0..4095" in out and "1 of 8 samples have no label" in out, out
        code, out, _ = check(good + [("8.gif", self.encoded(pixels, "GIF")), ("9.v2.png", self.encoded(pixels))])
        assert code == 1 and "2 samples without an image that is read (the first has 8.gif)" in out and "2 images left out" in out, out
        code, out, _ = check(good + [("8.cls", b"0"), ("9.json", b"{}")])
        assert code == 1 and "1 sample with a label and without an image (the first is 8.cls)" in out, out
        code, out, _ = check(good + [("8.png", b"damaged"), ("8.cls", b"0")])
        assert code == 1 and "a.tar/8.png: not PNG" in out, out
        code, out, _ = check([(f"{'ab'[i % 2]}/{i}.png", self.encoded((255 * noise((9, 7, 3), i)).astype("u1"))) for i in range(8)])
        assert code == 1 and "folders in archives are no classes" in out, out
        code, out, err = check([("data_batch_1.bin", b"x" * 3073)])
        assert code == 1 and "unpack it" in err, out + err
        self.shard(path, good)
        with open(path, "rb") as f:
            whole = f.read()
        for size in (600, 1100, 2000, 5000):
            with open(path, "wb") as f:
                f.write(whole[:size])
            code, out, err = decant("dataset", "check", path, "--set", "data.holdout=0")
            assert code == 1 and ("damaged" in err or "ends in it" in out + err), (size, out, err)

    def test_formats_by_content(self):
        path = self.place()
        self.folder(path)
        pixels = (255 * noise((9, 7, 3))).astype("u1")
        for i, (name, format) in enumerate((("a.jfif", "JPEG"), ("b.jpe", "JPEG"), ("c.ppm", "PPM"), ("d.jpg", "PNG"), ("e.png", "JPEG"), ("f.bmp", "PNG"))):
            Image.fromarray(pixels).save(os.path.join(path, "a", name), format=format)
        Image.fromarray(pixels[:, :, 0]).save(os.path.join(path, "b", "g.pgm"))
        Image.fromarray(pixels[:, :, 0] > 99).save(os.path.join(path, "b", "h.pbm"))
        code, out, err = decant("dataset", "check", path, "--set", "data.holdout=0")
        assert code == 0 and field(out, "training images") == "32", out + err


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="decant-datasets-") as directory:
        status = run_tests(Case(os.path.realpath(directory)))
    sys.exit(status)
