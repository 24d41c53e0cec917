"""The scripts of tests/lint find what they are there for: each rule is broken once in a small tree of its own."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


class Tree:
    """A few C files under a scratch directory, compiled like the real ones."""

    def __init__(self, files):
        self.root = tempfile.mkdtemp(prefix="decant-lint-")
        for path, text in files.items():
            os.makedirs(os.path.join(self.root, os.path.dirname(path)), exist_ok=True)
            with open(os.path.join(self.root, path), "w", encoding="utf-8") as file:
                file.write(text)

    def compile(self):
        for folder, _, names in os.walk(self.root):
            for name in [name for name in names if name.endswith(".c")]:
                source = os.path.relpath(os.path.join(folder, name), self.root)
                target = os.path.join(self.root, "build/obj", source[:-2] + ".o")
                os.makedirs(os.path.dirname(target), exist_ok=True)
                subprocess.run(["cc", "-I.", "-c", source, "-o", target], check=True, cwd=self.root)


def arrows(files):
    tree = Tree(files)
    tree.compile()
    script = os.path.join(ROOT, "tests/lint/arrows")
    result = subprocess.run([script, "--root", tree.root], capture_output=True, text=True, check=False)
    shutil.rmtree(tree.root)
    return result.returncode, result.stdout


def in_tree(script, files):
    """Exit status and output of a script that looks at the tree that it lies in, as git lists it."""
    tree = Tree(files)
    os.makedirs(os.path.join(tree.root, "tests/lint"))
    shutil.copy(os.path.join(ROOT, "tests/lint", script), os.path.join(tree.root, "tests/lint"))
    for command in (["git", "init", "-q"], ["git", "add", "."]):
        subprocess.run(command, check=True, cwd=tree.root)
    path = os.path.join(tree.root, "tests/lint", script)
    result = subprocess.run([path], capture_output=True, text=True, check=False)
    shutil.rmtree(tree.root)
    return result.returncode, result.stdout


class Arrows(unittest.TestCase):
    def test_passes_a_tree_that_points_one_way(self):
        code, text = arrows({
            "common/a.h": "int a(void);\n",
            "common/a.c": '#include "common/a.h"\nint a(void) { return 1; }\n',
            "worker/b.c": '#include "common/a.h"\nint b(void) { return a(); }\n',
        })
        self.assertEqual((code, text.splitlines()[-1]), (0, "arrows: 3 files of 10 rooms, no circle"))

    def test_finds_an_include_against_the_arrows(self):
        code, text = arrows({"worker/b.h": "", "server/shell/a.c": '#include "worker/b.h"\n'})
        self.assertEqual((code, text), (1, "server/shell/a.c: includes worker/b.h against the arrows\n"))

    def test_finds_a_call_that_was_declared_by_hand(self):
        code, text = arrows({
            "common/a.c": "int b(void);\nint a(void) { return b(); }\n",
            "proto/b.c": "int b(void) { return 1; }\n",
        })
        self.assertEqual((code, text), (1, "common/a.c: calls b of proto/b.c against the arrows\n"))

    def test_finds_headers_in_a_circle(self):
        code, text = arrows({
            "common/a.h": '#pragma once\n#include "common/b.h"\n',
            "common/b.h": '#pragma once\n#include "common/a.h"\n',
            "common/a.c": '#include "common/a.h"\n',
        })
        self.assertEqual(code, 1)
        self.assertIn("headers include each other in a circle: common/a.h, common/b.h", text)

    def test_finds_a_circle_of_calls_through_a_third_file(self):
        code, text = arrows({
            "cli/a.c": "int b(void);\nint a(void) { return b(); }\n",
            "cli/b.c": "int c(void);\nint b(void) { return c(); }\n",
            "cli/c.c": "int a(void);\nint c(void) { return a(); }\n",
        })
        self.assertEqual(code, 1)
        self.assertIn("files call each other in a circle: cli/a.c, cli/b.c, cli/c.c", text)
        self.assertIn("cli/c.c -> cli/a.c: a", text)

    def test_refuses_a_tree_that_is_not_built(self):
        tree = Tree({"common/a.c": ""})
        script = os.path.join(ROOT, "tests/lint/arrows")
        result = subprocess.run([script, "--root", tree.root], capture_output=True, text=True, check=False)
        shutil.rmtree(tree.root)
        self.assertEqual(result.returncode, 2)
        self.assertIn("make all", result.stdout)


class Includes(unittest.TestCase):
    HEADER = "struct pair { int left, right; };\nstruct hidden;\n#define PAIRS 2\n"

    def test_passes_what_is_used_by_type_by_member_and_by_name(self):
        code, text = in_tree("includes", {
            "a.h": self.HEADER,
            "b.c": '#include "a.h"\nint b = PAIRS;\n',
            "c.c": '#include <stdio.h>\n#include "a.h"\nvoid c(struct hidden *h) { printf("%p", (void *)h); }\n',
            "d.c": '#include "a.h"\n#include "e.h"\nint d(void) { return e()->left; }\n',
            "e.h": "struct pair *e(void);\n",
        })
        self.assertEqual((code, text), (0, "includes: 5 in 5 files, none unused\n"))

    def test_finds_unused_headers_of_both_kinds(self):
        code, text = in_tree("includes", {
            "a.h": self.HEADER,
            "b.c": '#include <stdio.h>\n#include "a.h"\n/* printf, PAIRS */\nconst char *b = "pair";\nint left;\n',
        })
        self.assertEqual((code, text), (1, "b.c: nothing of stdio.h is used\nb.c: nothing of a.h is used\n"))


class Names(unittest.TestCase):
    def test_guards_and_tests(self):
        code, text = in_tree("names", {
            "common/a.h": "#ifndef DECANT_COMMON_A_H\n#define DECANT_COMMON_A_H\n#endif\n",
            "common/b.h": "#ifndef B_H\n#define B_H\n#endif\n",
            "common/many.h": "/* No include guard, for a reason. */\n",
            "tests/unit/common/test_a.c": "static void test_one(void **state)\n{\n}\nstatic void two(void **state)\n{\n}\n",
        })
        self.assertEqual((code, text.splitlines()), (1, [
            "common/b.h: its include guard should be DECANT_COMMON_B_H",
            "tests/unit/common/test_a.c: the test two should be called test_two",
        ]))

    def test_passes_the_rest(self):
        self.assertEqual(in_tree("names", {"common/a.c": "int a;\n"}), (0, "names: 1 files\n"))


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    sys.exit(failed > 0)
