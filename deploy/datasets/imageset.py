"""What the scripts that make image sets share: packages with a pinned checksum, one image as pixels, the .npz that Decant reads.

A set is a function of the packages' versions, the script and its arguments: the same bytes wherever it is made.
"""

import base64
import hashlib
import io
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

import numpy
from PIL import Image


def fail(message):
    sys.exit(f"{os.path.basename(sys.argv[0])}: {message}")


def make(main):
    """Runs a script's main: whatever ends it, temporary files go, and the last line says what happened."""
    def stop(number, _):
        for more in (signal.SIGINT, signal.SIGTERM):
            signal.signal(more, signal.SIG_IGN)  # what follows cleans up
        os.write(2, b"stopped; nothing was written\n")  # print may be what was interrupted
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        main()
    except subprocess.CalledProcessError as error:
        fail(f"{error.cmd[0]} failed: {(error.stderr or b'').decode(errors='replace').strip()}")
    except OSError as error:
        fail(error)


def check_out(path):
    """Fails if no file can be written there: before the work, not after it."""
    path = pathlib.Path(path)
    if path.is_dir():
        fail(f"--out {path}: a directory; name the file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        fail(f"--out {path}: cannot be written: {error.strerror}")


def cache_directory():
    root = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "decant" / "packages"
    root.mkdir(parents=True, exist_ok=True)
    return root


def sha512(path):
    digest = hashlib.sha512()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return base64.b64encode(digest.digest()).decode()


def npm_package(name, version, checksum):
    """The opened archive of an npm package, fetched once into the user's cache. Another content than the pinned one is refused."""
    path = cache_directory() / f"{name.replace('@', '').replace('/', '-')}-{version}.tgz"
    if not path.exists() or sha512(path) != checksum:
        npm = shutil.which("npm") or fail("npm is missing, which fetches the drawings: apt-get install npm")
        print(f"fetching {name} {version}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as place:
            done = subprocess.run([npm, "pack", "--silent", f"{name}@{version}"], cwd=place, capture_output=True, text=True)
            made = list(pathlib.Path(place).glob("*.tgz"))
            if done.returncode != 0 or len(made) != 1:
                fail(f"npm pack {name}@{version} failed; is there a network and a registry?\n{done.stderr.strip()}")
            if sha512(made[0]) != checksum:
                fail(f"{name} {version} is not what it was when this script was written (SHA-512 {sha512(made[0])}): it is not used")
            os.replace(made[0], path)
    return tarfile.open(path, "r:gz")


def debian_package(package):
    """The file of a Debian package, fetched with `apt-get download` into the user's cache once; nothing is installed."""
    cache = cache_directory()
    found = sorted(cache.glob(f"{package}_*.deb"))
    if found:
        return found[-1]
    print(f"fetching {package}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=cache) as place:  # whole or not at all: another script may look for it, or this one be stopped
        done = subprocess.run(["apt-get", "download", package], cwd=place, capture_output=True, text=True)
        made = list(pathlib.Path(place).glob("*.deb"))
        if done.returncode != 0 or len(made) != 1:
            fail(f"apt-get download {package} failed; `apt-get update` may help\n{done.stderr.strip()}")
        os.replace(made[0], cache / made[0].name)
    return cache / made[0].name


def debian_files(package):
    """(path, bytes) of a Debian package's regular files: no links, nothing is unpacked on disk."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", debian_package(package)], stdout=subprocess.PIPE) as unpacking:
        with tarfile.open(fileobj=unpacking.stdout, mode="r|") as archive:
            for member in archive:
                if member.isfile():
                    yield pathlib.PurePosixPath(member.name), archive.extractfile(member).read()
    if unpacking.returncode != 0:
        damaged(package)


def damaged(package):
    fail(f"{package}: dpkg-deb could not read it; remove it from {cache_directory()} and try again")


def drawn_svg(data, side):
    """An SVG drawing, side pixels wide and high."""
    shutil.which("rsvg-convert") or fail("rsvg-convert is missing, which draws SVG: apt-get install librsvg2-bin")
    drawn = subprocess.run(["rsvg-convert", "--width", str(side), "--height", str(side)], input=data, capture_output=True, check=True)
    return Image.open(io.BytesIO(drawn.stdout))


def pixels(image, side, ground=(255, 255, 255)):
    """(side, side, 3) uint8 of a drawing, composited on ground, centred on a square and reduced with antialiasing."""
    image = image.convert("RGBA")
    widest = max(image.size)
    square = Image.new("RGBA", (widest, widest), ground + (255,))
    square.alpha_composite(image, ((widest - image.width) // 2, (widest - image.height) // 2))
    return numpy.asarray(square.convert("RGB").resize((side, side), Image.LANCZOS))


class Progress:
    """A line a second on a terminal, every ten seconds elsewhere."""

    def __init__(self, what, total):
        self.what, self.total, self.done = what, total, 0
        self.began = self.said = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def step(self):
        self.done += 1
        now = time.monotonic()
        if now - self.said >= (1 if self.terminal else 10) or self.done == self.total:
            self.said = now
            left = (now - self.began) / self.done * (self.total - self.done)
            end = "\r" if self.terminal and self.done < self.total else "\n"
            print(f"{self.what}: {self.done} of {self.total}, {left:.0f} s left   ", end=end, file=sys.stderr, flush=True)


def write_npz(path, **arrays):
    """Writes whole or not at all; the archive's entries have a fixed date, so equal arrays give equal bytes."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
        try:
            numpy.savez_compressed(file, **arrays)
            file.flush()
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
    sums = " ".join(f"{name} {array.shape}" for name, array in sorted(arrays.items()))
    print(f"{path}: {sums}; sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")
