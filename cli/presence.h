/* Is somebody at an endpoint, and if not, could a server of this machine be? Found out by connecting, and by binding. */
#ifndef DECANT_CLI_PRESENCE_H
#define DECANT_CLI_PRESENCE_H

enum presence {
    LISTENING, /* somebody does */
    FREE,      /* nobody does, and this machine could */
    ELSEWHERE, /* nobody does, and the address is another machine's */
    UNREACHABLE,
    UNUSABLE, /* not an address, or not allowed here */
};

/* endpoint: as in net.*; "tcp://" "*:5701" is looked for on the loopback. *why: what is wrong, when something is; a
 * static text. Waits 2 s at most. */
enum presence presence_of(const char *endpoint, const char **why);

#endif
