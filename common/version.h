/* The release that this tree is, or will become: MAJOR.MINOR.PATCH. CHANGELOG.md says what it brought. It names a
 * build to people (programs, WELCOME, checkpoints, metrics); whether two processes may work together is decided by
 * PROTO_VERSION and the configuration's hash. */
#ifndef DECANT_COMMON_VERSION_H
#define DECANT_COMMON_VERSION_H

#define DECANT_VERSION "0.1.0"

#endif
