"""tests/run itself: what it counts, and that a test which hangs is named, ended and counted as a failure."""
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "run")


def alive(pid):
    return os.path.exists(f"/proc/{pid}/exe")


class Runner(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory(prefix="decant-runner-")
        self.addCleanup(self.scratch.cleanup)

    def path(self, name):
        return os.path.join(self.scratch.name, name)

    def script(self, name, body):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write("#!/usr/bin/env bash\n" + body)
        os.chmod(self.path(name), 0o755)
        return self.path(name)

    def start(self, *scripts, seconds=900):
        return subprocess.Popen([RUN, self.path("logs"), *scripts], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                env={**os.environ, "TEST_SECONDS": str(seconds)})

    def run_all(self, *scripts, **options):
        runner = self.start(*scripts, **options)
        output = runner.communicate(timeout=60)[0]
        return runner.returncode, output

    def pid_in(self, name):
        until = time.monotonic() + 30
        while time.monotonic() < until:
            if os.path.exists(self.path(name)) and os.path.getsize(self.path(name)) > 0:
                with open(self.path(name), encoding="utf-8") as file:
                    return int(file.read())
            time.sleep(0.05)
        raise AssertionError(f"{name} was not written")

    def test_counts(self):
        code, output = self.run_all(self.script("good", "echo '3 passed, 0 failed'"), self.script("bad", "echo '1 passed, 2 failed'; exit 1"))
        self.assertEqual(code, 1)
        self.assertIn("decant: 4 passed, 2 failed", output)

    def test_silence_is_a_failure(self):
        code, output = self.run_all(self.script("silent", "true"), self.script("broken", "echo '1 passed'; exit 3"))
        self.assertEqual(code, 1)
        self.assertIn("decant: 1 passed, 2 failed", output)

    def test_a_test_that_hangs_is_named_and_ended(self):
        # in the script's group, in one of its own, and in a session of its own, as the launcher starts servers
        hanging = self.script("hanging", f"""sleep 4321 &
echo $! >{self.path('pid')}
timeout 900 sh -c 'echo $$ >{self.path('grouped')}; exec sleep 4322' &
setsid sh -c 'echo $$ >{self.path('apart')}; exec sleep 4323' &
echo '2 passed'
wait
""")
        code, output = self.run_all(hanging, self.script("next", "echo '1 passed'"), seconds=4)
        self.assertEqual(code, 1)
        self.assertIn("exit 124", output)
        for seconds in (4321, 4322, 4323):
            self.assertIn(f"sleep {seconds}", output)
        self.assertIn("decant: 3 passed, 1 failed", output)
        for name in ("pid", "grouped", "apart"):
            self.assertFalse(alive(self.pid_in(name)), name)

    def test_a_limit_that_is_none_is_refused(self):
        for seconds in ("abc", "-5", "0", "1.5"):
            self.assertEqual(self.run_all(self.script("good", "echo '1 passed'"), seconds=seconds)[0], 2, seconds)

    def test_interrupted_it_leaves_nothing(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            name = f"pid{int(number)}"
            runner = self.start(self.script("long", f"sleep 4321 &\necho $! >{self.path(name)}\nwait"))
            child = self.pid_in(name)
            runner.send_signal(number)
            self.assertEqual(runner.wait(30), 130)
            runner.stdout.close()
            until = time.monotonic() + 30
            while alive(child) and time.monotonic() < until:
                time.sleep(0.05)
            self.assertFalse(alive(child))

    def test_ctrl_c_is_not_ignored_by_what_it_starts(self):
        asks = self.script("asks", "kill -INT $$; sleep 0.1; echo '1 passed'")
        ignoring = subprocess.run(["bash", "-c", f"trap '' INT; exec '{RUN}' '{self.path('logs')}' '{asks}'"],
                                  stdout=subprocess.PIPE, text=True, check=False)
        self.assertIn("exit 130", ignoring.stdout)


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    sys.exit(failed > 0)
