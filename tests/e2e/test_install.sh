#!/usr/bin/env bash
# make install puts everything below DESTDIR and PREFIX, where it works; make uninstall takes it all away again.
source "$(dirname "$0")/lib.sh"
root=$work/root
place() { make -s BUILD="$BUILD" DESTDIR="$root" PREFIX=/usr "$1"; }
installed() { (cd "$root" && find . -type f | sort); }
expected() {
    printf './usr/bin/%s\n' decant decant-parameter decant-prototype decant-worker
    echo ./usr/share/bash-completion/completions/decant
    printf './usr/share/man/man1/%s.1\n' decant decant-parameter decant-prototype decant-worker
}
check "install" place install
check "every file is in its place" diff <(expected | sort) <(installed)
check "the programs run" bash -c "for program in '$root'/usr/bin/*; do \$program --version || exit 1; done"
check "it trains from there" exits 0 timeout 120 "$root/usr/bin/decant" train --run e2e --out "$work/run" --no-eval --no-redis "${small[@]}" --set run.steps=4
check "a manual page reads" bash -c "head -n 2 '$root/usr/share/man/man1/decant.1' | grep -q '^.TH DECANT 1'"
check "the completion is for bash" bash -n "$root/usr/share/bash-completion/completions/decant"
touch "$root/usr/bin/other"
check "uninstall" place uninstall
check "nothing is left, and nothing else is gone" diff <(echo ./usr/bin/other) <(installed)
check "uninstall of nothing" place uninstall
finish
