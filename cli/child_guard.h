/* Between the launcher and a child of its: a process that asks the kernel for SIGTERM on the launcher's death and
 * then becomes the child. So no end of the launcher, not even SIGKILL, leaves anything at work. It stands between
 * because the kernel takes that request (PR_SET_PDEATHSIG) from the child itself only, and redis-server is not ours
 * to change. */
#ifndef DECANT_CLI_CHILD_GUARD_H
#define DECANT_CLI_CHILD_GUARD_H

/* The word by which `decant` is called as one: decant CHILD_GUARD PARENT PROGRAM ARGUMENT... */
#define CHILD_GUARD "child-guard"

enum {
    CHILD_GUARD_ARGUMENTS = 3 /* that stand before PROGRAM */,
    CHILD_GUARD_NOT_STARTED = 127 /* as shells say it */
};

/* argv as above from the word on. Returns an exit code when there is no program to become, or nobody to guard for. */
int child_guard(int argc, char **argv);

#endif
